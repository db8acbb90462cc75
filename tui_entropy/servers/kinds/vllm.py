"""vLLM, asked by `/v1/completions` with ids: it names tokens by ids, which are looked up by `/detokenize`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Message
from tui_entropy.records.model import ServerFact, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import PromptToken
from tui_entropy.servers.http.client import HttpClient, ServerRefused
from tui_entropy.servers.kinds.kind import AMOUNTS, Context, Kind, Named, Request
from tui_entropy.servers.kinds.prompt_tokens import tokens_of_text, tokens_of_texts
from tui_entropy.servers.streams.chunks import chunk_of_object
from tui_entropy.servers.streams.told_token import Alternative, ToldToken
from tui_entropy.servers.vllm_lens.described import blocks_of, described

SEPARATOR = "\n\u241e\n"
"""Stands between tokens whose texts are asked for together. No token holds it whole."""
BANNED = -100.0
"""The least bias that is allowed."""
NO_TOKEN = 2**31 - 1
"""An id that no vocabulary has: the refusal of a request with it tells how many there are."""
FACTOR = 5.0
NO_PLUGIN = "the plugin vllm-lens is not there"
MOST_WIDELY = 4096
"""Tokens of a prompt up to which as many alternatives of each are asked for as of what is written: all come in one
answer."""


class Vllm(Kind):
    """It tells the raw distribution unless its operator chose otherwise, which `learn` finds out."""

    name: ClassVar[str] = "vllm"
    title = "vLLM"
    takes_ids: ClassVar[bool] = True
    names_by_id: ClassVar[bool] = True
    fields: ClassVar[Mapping[str, str]] = {
        **Kind.fields, "top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty",
        "banned": "logit_bias",
    }  # fmt: skip

    no_inside = NO_PLUGIN

    def __init__(self, client: HttpClient, spec: ServerSpec, model: Mapping[str, Any]) -> None:
        super().__init__(client, spec, model)
        self._separator: tuple[int, ...] | None = None

    @classmethod
    def recognise(cls, client: HttpClient, models: Mapping[str, Any]) -> str | None:
        if not cls.is_named(models):
            return None
        about = client.look("/version")
        version = about.get("version") if isinstance(about, dict) else ""
        return f"vLLM {version}".strip()

    def learn(self) -> None:
        self.n_logprobs = self._amount()
        self.vocab = self.vocab or self._vocabulary()
        if self.spec.sampler == "own":
            self.n_logprobs = self.vocab
        self._look_inside()
        self.distribution = self._whose_distribution()

    def facts(self) -> list[ServerFact]:
        known = {fact.name: fact for fact in super().facts()}
        known["prompt scores"] = ServerFact("prompt scores", "surprisal and rank of each token")
        known["steering, lens"] = ServerFact("steering, lens", self._inside_fact(), not self.no_inside)
        return list(known.values())

    def _look_inside(self) -> None:
        """Whether the plugin is there, and what it tells of the model."""
        if self.spec.lens == "off":
            self.no_inside = "its plugin vllm-lens is left alone, as --server-lens off says"
        elif self.client.look("/v1/hooks/collect", {}) is not None:
            try:
                self.inside = described(self.client, self._ask_with)
                self.no_inside = ""
            except UserError as failure:
                self.no_inside = str(failure)

    def _ask_with(self, fields: dict[str, str]) -> Request:
        path, body = self.request(Context(ids=(1,)), Knobs(temperature=0.0), 1, 0)
        return path, {**body, "vllm_xargs": fields}

    def _inside_fact(self) -> str:
        if self.inside is None:
            return f"none: {self.no_inside}"
        blocks = blocks_of(self.spec.lens, self.inside)
        heads = f"heads of blocks {', '.join(map(str, blocks))}" if blocks else "no heads"
        lens = "lens rows (knob lens), " if self.inside.norm else ""
        return f"by vllm-lens: norms of {self.inside.n_layers} blocks, {heads}, {lens}vectors"

    @property
    def ignored(self) -> tuple[str, ...]:
        told = ("lens", "lens_steps") if self.inside is not None and self.inside.norm else ()
        return tuple(name for name in super().ignored if name not in told)

    def _vocabulary(self) -> int:
        """As it says where an id is refused; 0 where it does not."""
        path, body = self.request(Context(ids=(1,)), Knobs(temperature=0.0), 1, 0)
        body["logit_bias"] = {str(NO_TOKEN): 1.0}
        try:
            self.whole(path, body)
        except ServerRefused as refusal:
            if found := re.search(r"ocab\D*?size\D*(\d+)", refusal.said):
                return int(found[1])
        return 0

    def _whose_distribution(self) -> str:
        """The second candidate is made likelier from outside: where that shows, what it tells is processed."""
        if self.n_logprobs < 2:
            return "not known: there are too few of them to find out"
        plain = self._first_logprobs({})
        if len(plain) < 2:
            return "not known: it told none"
        second = sorted(plain, key=lambda one: -plain[one])[1]
        biased = self._first_logprobs({str(second): FACTOR})
        if second not in biased:
            return "not known: it told something else when asked again"
        moved = biased[second] - plain[second] > 0.05
        return "processed: after the knobs, so no numbers of the model's own" if moved else "raw: before all knobs"

    def _first_logprobs(self, bias: dict[str, float]) -> dict[int, float]:
        ids = tuple(one.token_id for one in self.encode("The capital of France is"))
        path, body = self.request(Context(ids=ids), Knobs(temperature=0.0), 1, self.n_logprobs)
        body["logit_bias"] = bias
        tokens = self.whole(path, body).tokens
        told = tokens[0].alternatives if tokens else ()
        return {one.token_id: one.logprob for one in told if one.token_id is not None}

    def request(
        self, context: Context, knobs: Knobs, n_tokens: int, n_logprobs: int, banned: Iterable[int] = ()
    ) -> Request:
        path, body = super().request(context, knobs, n_tokens, n_logprobs, banned)
        body["prompt"] = list(context.ids) if context.ids else context.text
        body |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
        body["logit_bias"] |= {str(one): BANNED for one in banned}
        return path, body

    def value(self, knobs: Knobs, name: str) -> Any:
        if name == "banned":
            return {str(one): BANNED for one in knobs.banned}
        return super().value(knobs, name)

    def prompt_scores(self, ids: Sequence[int]) -> list[ToldToken] | None:
        """One request that writes a token; ids are the keys, so that none is taken for another."""
        n_told = min(self.n_logprobs, AMOUNTS[0] if len(ids) <= MOST_WIDELY else AMOUNTS[1])
        found = self.client.post(
            "/v1/completions",
            {"model": self.model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0,
             "prompt_logprobs": n_told},
        )  # fmt: skip
        choice = (found.get("choices") or [{}])[0] if isinstance(found, dict) else {}
        rows = choice.get("prompt_logprobs") or found.get("prompt_logprobs")
        if not isinstance(rows, list) or len(rows) != len(ids):
            return None
        return [_scored(one, row, n_told) for one, row in zip(ids, rows, strict=True)]

    @property
    def reads(self) -> str:
        return "in a few requests"

    # --- Tokens ------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> tuple[PromptToken, ...]:
        ids = self._tokenize({"prompt": text, "add_special_tokens": True})
        names = self.names(tuple(dict.fromkeys(ids)))
        return tokens_of_text(ids, [names[one].text for one in ids], text)

    def encode_chat(self, messages: Sequence[Message], opening: bool = True) -> tuple[PromptToken, ...]:
        said = [{"role": one.role, "content": one.content} for one in messages]
        return self._named(self._tokenize({"messages": said, "add_generation_prompt": opening}))

    def encode_continuation(self, text: str) -> list[int]:
        return self._tokenize({"prompt": text, "add_special_tokens": False})

    def _tokenize(self, what: dict[str, Any]) -> list[int]:
        found = self.client.post("/tokenize", {"model": self.model, **what})
        ids = found.get("tokens") if isinstance(found, dict) else None
        if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
            raise UserError(f"{self.client.url}/tokenize did not answer as vLLM does: is it one?")
        return ids

    def _named(self, ids: Sequence[int]) -> tuple[PromptToken, ...]:
        names = self.names(tuple(dict.fromkeys(ids)))
        return tokens_of_texts(ids, (names[one].text for one in ids))

    def names(self, ids: Sequence[int]) -> dict[int, Named]:
        """All are asked for in one request, with a separator before, between and behind them, since a token that
        stands first or last may lose a space."""
        if self._separator is None:
            self._separator = tuple(self.encode_continuation(SEPARATOR))
        between = list(self._separator)
        joined = list(between)
        for one in ids:
            joined += [one, *between]
        first, *texts = self._detokenize(joined).split(SEPARATOR)
        if len(texts) != len(ids) + 1 or first or texts[-1]:
            texts = [self._detokenize([one]) for one in ids]
        return {one: _named(text) for one, text in zip(ids, texts, strict=False)}

    def _detokenize(self, ids: Sequence[int]) -> str:
        found = self.client.post("/detokenize", {"model": self.model, "tokens": list(ids)})
        return str(found.get("prompt", "")) if isinstance(found, dict) else ""


def _named(text: str) -> Named:
    """A token that is part of a character only has no bytes that could be told."""
    return Named(b"" if "\ufffd" in text else text.encode(), text)


def _scored(token_id: int, row: object, n_told: int) -> ToldToken:
    """row: {id: {logprob, rank, decoded_token}} of so many most probable tokens and the one that is there, which says
    nothing of those between."""
    entries = row.items() if isinstance(row, dict) else ()
    rows = [
        [about.get("logprob"), int(one), about.get("decoded_token")] for one, about in entries if str(one).isdigit()
    ]
    told = chunk_of_object({"meta_info": {"output_token_logprobs": rows}}).tokens
    others = [Alternative(one.logprob, one.token_id, one.text) for one in told if one.logprob is not None]
    own = next((one for one in told if one.token_id == token_id), ToldToken(token_id))
    return ToldToken(
        token_id, own.text, None, own.logprob, tuple(sorted(others, key=lambda one: -one.logprob)[:n_told])
    )
