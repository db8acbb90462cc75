"""llama.cpp's server, asked by its own `/completion`: ids, bytes, any number of alternatives, all of its samplers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from msgspec import structs

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Message
from tui_entropy.records.model import ServerFact, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import PromptToken
from tui_entropy.servers.http.client import HttpClient
from tui_entropy.servers.kinds.kind import Context, Kind, Named, Request
from tui_entropy.servers.kinds.prompt_tokens import tokens_of_bytes
from tui_entropy.servers.streams.told_token import ToldToken

SAMPLERS = {
    "repetition_penalty": "penalties", "dry_multiplier": "dry", "top_n_sigma": "top_n_sigma", "top_k": "top_k",
    "typical_p": "typ_p", "top_p": "top_p", "min_p": "min_p", "xtc_probability": "xtc", "temperature": "temperature",
}  # fmt: skip
"""Stage -> its name there. The three penalties are one, and dynamic temperature is part of temperature."""
RANDOM_SEED = 2**32 - 1
"""What it takes for a seed of its own choice."""
USUAL_LOGPROBS = 100


class LlamaCpp(Kind):
    """It tells the raw distribution, before all samplers, of as many tokens as one asks for."""

    name: ClassVar[str] = "llamacpp"
    title = "llama.cpp"
    takes_ids: ClassVar[bool] = True
    tells_all: ClassVar[bool] = True
    fields: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature", "dynatemp_range": "dynatemp_range", "dynatemp_exponent": "dynatemp_exponent",
        "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "typical_p": "typical_p", "top_n_sigma": "top_n_sigma",
        "xtc_probability": "xtc_probability", "xtc_threshold": "xtc_threshold",
        "repetition_penalty": "repeat_penalty", "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty", "penalty_last_n": "repeat_last_n",
        "dry_multiplier": "dry_multiplier", "dry_base": "dry_base", "dry_allowed_length": "dry_allowed_length",
        "dry_breakers": "dry_sequence_breakers", "mirostat_tau": "mirostat_tau", "mirostat_eta": "mirostat_eta",
        "order": "samplers", "banned": "logit_bias", "seed": "seed",
    }  # fmt: skip
    distribution = "raw: the model's own, before all samplers"

    def __init__(self, client: HttpClient, spec: ServerSpec, model: Mapping[str, Any]) -> None:
        super().__init__(client, spec, model)
        about = model.get("meta")
        about = about if isinstance(about, dict) else {}
        self.vocab = spec.vocab or int(about.get("n_vocab") or 0)
        self.context_length = int(about.get("n_ctx") or 0)
        self.weights = str(about.get("ftype") or "")

    @classmethod
    def recognise(cls, client: HttpClient, models: Mapping[str, Any]) -> str | None:
        if not cls.is_named(models):
            return None
        about = client.look("/props")
        build = about.get("build_info") if isinstance(about, dict) else ""
        return f"llama.cpp {build}".strip()

    def learn(self) -> None:
        most = self.vocab if self.spec.sampler == "own" else USUAL_LOGPROBS
        self.n_logprobs = min(self.spec.n_logprobs or most, self.vocab or most)

    def facts(self) -> list[ServerFact]:
        weights = [ServerFact("weights", f"{self.weights}: bands are of this server's distribution")]
        return [*super().facts(), *(weights if self.weights else [])]

    def request(
        self, context: Context, knobs: Knobs, n_tokens: int, n_logprobs: int, banned: Iterable[int] = ()
    ) -> Request:
        body = {
            "prompt": list(context.ids), "n_predict": n_tokens, "n_probs": n_logprobs, "return_tokens": True,
            "stream": True, "cache_prompt": True, "mirostat": 2 if knobs.mirostat_tau else 0,
            **self._settings(knobs),
        }  # fmt: skip
        body["logit_bias"] += [[one, False] for one in banned]
        return "/completion", body

    def value(self, knobs: Knobs, name: str) -> Any:
        value = super().value(knobs, name)
        match name:
            case "top_n_sigma":
                return value or -1  # 0 is off here, and there it would keep nothing
            case "penalty_last_n":
                return value or self.context_length or 2**16  # 0 is no limit here, and there it is off
            case "order":
                return list(dict.fromkeys(SAMPLERS[stage] for stage in value if stage in SAMPLERS))
            case "banned":
                return [[one, False] for one in value]
            case "dry_breakers":
                return list(value)
            case "mirostat_tau":
                return value or 5.0
            case "seed":
                return value % RANDOM_SEED
        return value

    def recovered(self, tokens: list[ToldToken]) -> list[ToldToken]:
        """It holds tokens back that end inside a character, and names only the one that completes it, with the text
        of all. Where that text is so many tokens and the last is the one that was named, those are the others."""
        last = tokens[-1] if tokens else ToldToken()
        if last.token_id is None or not last.text or all(one.token_id is not None for one in tokens):
            return tokens
        whole = "".join(one.text for one in tokens)
        pieces = self._tokenize(whole, add_special=False, parse_special=False)
        if len(pieces) != len(tokens) or pieces[-1].token_id != last.token_id:
            return tokens
        return [
            structs.replace(one, token_id=piece.token_id, token_bytes=piece.token_bytes)
            for one, piece in zip(tokens, pieces, strict=True)
        ]

    # --- Tokens ------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> tuple[PromptToken, ...]:
        return self._tokenize(text, add_special=True, parse_special=True)

    def encode_chat(self, messages: Sequence[Message], opening: bool = True) -> tuple[PromptToken, ...]:
        said = [{"role": one.role, "content": one.content} for one in messages]
        asked = {"messages": said, "add_generation_prompt": opening}
        return self.encode(str(self.client.post("/apply-template", asked)["prompt"]))

    def encode_continuation(self, text: str) -> list[int]:
        return [one.token_id for one in self._tokenize(text, add_special=False, parse_special=False)]

    def _tokenize(self, text: str, **how: bool) -> tuple[PromptToken, ...]:
        found = self.client.post("/tokenize", {"content": text, "with_pieces": True, **how})
        try:
            pieces = [(int(one["id"]), _piece(one["piece"])) for one in found["tokens"]]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{self.client.url}/tokenize did not answer as llama.cpp does: is it one?") from None
        return tokens_of_bytes(pieces)

    def names(self, ids: Sequence[int]) -> dict[int, Named]:
        named = {}
        for one in ids:
            text = str(self.client.post("/detokenize", {"tokens": [one]}).get("content", ""))
            named[one] = Named(text.encode(), text)
        return named


def _piece(piece: str | list[int]) -> bytes:
    """Bytes where it is no text by itself."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)
