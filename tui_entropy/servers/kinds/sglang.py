"""SGLang, asked by its own `/generate`: ids and texts of every token, scores of the prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Message
from tui_entropy.records.model import ServerFact
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import PromptToken
from tui_entropy.servers.http.client import HttpClient
from tui_entropy.servers.kinds.kind import Context, Kind, Named, Request
from tui_entropy.servers.kinds.prompt_tokens import tokens_of_text
from tui_entropy.servers.streams.chunks import DONE, NoChunk, chunk_of_object
from tui_entropy.servers.streams.sse import event_data
from tui_entropy.servers.streams.told_token import Chunk, ToldToken

USUAL_LOGPROBS = 20


class Sglang(Kind):
    """Written from its sources; its events may hold all that was written so far, or only what is new."""

    name: ClassVar[str] = "sglang"
    title = "SGLang"
    takes_ids: ClassVar[bool] = True
    fields: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
        "repetition_penalty": "repetition_penalty", "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty", "seed": "sampling_seed",
    }  # fmt: skip
    distribution = "not known: after the temperature, unless the server was set to tell the original ones"

    @classmethod
    def recognise(cls, client: HttpClient, models: Mapping[str, Any]) -> str | None:
        about = client.look("/get_model_info") if cls.is_named(models) else None
        return "SGLang" if isinstance(about, dict) else None

    def learn(self) -> None:
        self.n_logprobs = self.spec.n_logprobs or USUAL_LOGPROBS

    def facts(self) -> list[ServerFact]:
        known = {fact.name: fact for fact in super().facts()}
        known["prompt scores"] = ServerFact("prompt scores", "surprisal and rank of each token")
        return [*known.values(), ServerFact("this program's part", "not tried on a live server", False)]

    @property
    def reads(self) -> str:
        return "in a few requests"

    def request(
        self, context: Context, knobs: Knobs, n_tokens: int, n_logprobs: int, banned: Iterable[int] = ()
    ) -> Request:
        asked = {"input_ids": list(context.ids)} if context.ids else {"text": context.text}
        return "/generate", {
            **asked, "stream": True, "return_logprob": True, "top_logprobs_num": n_logprobs,
            "return_text_in_logprobs": True, "sampling_params": {"max_new_tokens": n_tokens, **self._settings(knobs)},
        }  # fmt: skip

    def value(self, knobs: Knobs, name: str) -> Any:
        value = super().value(knobs, name)
        return -1 if name == "top_k" and not value else value

    def chunks(self, pieces: Iterable[bytes]) -> Iterator[Chunk]:
        seen = Seen()
        for data in event_data(pieces):
            if data.strip() == DONE:
                yield Chunk(is_done=True)
                continue
            try:
                found = json.loads(data)
            except ValueError as wrong:
                raise NoChunk(f"an event that is no JSON: {data[:80]!r}") from wrong
            yield chunk_of_object(seen.new_part(found) if isinstance(found, dict) else {})

    # --- Tokens ------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> tuple[PromptToken, ...]:
        rows = self._of_prompt({"text": text})["input_token_logprobs"]
        return tokens_of_text([int(row[1]) for row in rows], [str(row[2] or "") for row in rows], text)

    def prompt_scores(self, ids: Sequence[int]) -> list[ToldToken] | None:
        about = self._of_prompt({"input_ids": list(ids), "top_logprobs_num": self.n_logprobs})
        rows, tops = about["input_token_logprobs"], about.get("input_top_logprobs")
        told = {"output_token_logprobs": rows, "output_top_logprobs": tops if isinstance(tops, list) else []}
        tokens = chunk_of_object({"meta_info": told}).tokens
        return list(tokens) if [one.token_id for one in tokens] == list(ids) else None

    def _of_prompt(self, prompt: dict[str, Any]) -> dict[str, Any]:
        asked = {
            **prompt, "return_logprob": True, "logprob_start_len": 0, "return_text_in_logprobs": True,
            "sampling_params": {"max_new_tokens": 1, "temperature": 0.0},
        }  # fmt: skip
        found = self.client.post("/generate", asked)
        about = found.get("meta_info") if isinstance(found, dict) else None
        rows = about.get("input_token_logprobs") if isinstance(about, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 3 for row in rows):
            raise UserError(f"{self.client.url}/generate did not answer as SGLang does: is it one?")
        assert isinstance(about, dict)
        return about

    def encode_chat(self, messages: Sequence[Message], opening: bool = True) -> tuple[PromptToken, ...]:
        raise UserError(
            "SGLang does not say how a conversation becomes ids: write with --raw, or ask it as --server-kind openai"
        )

    def names(self, ids: Sequence[int]) -> dict[int, Named]:
        return {}  # its rows hold the texts


class Seen:
    """What the events of one stream held so far. One that begins with all of it holds the whole anew."""

    def __init__(self) -> None:
        self._text, self._n_ids, self._n_rows = "", 0, 0

    def new_part(self, found: dict[str, Any]) -> dict[str, Any]:
        """The event with what is new in it alone."""
        about = dict(found.get("meta_info") or {})
        rows, tops = about.get("output_token_logprobs") or [], about.get("output_top_logprobs") or []
        text, ids = str(found.get("text") or ""), list(found.get("output_ids") or [])
        counted = about.get("completion_tokens")
        if len(ids) == counted if "output_ids" in found else len(rows) == counted:
            whole = text.rstrip("\ufffd")  # half a character, which may be another one in the next event
            part = whole[len(self._text) :], ids[self._n_ids :], rows[self._n_rows :], tops[self._n_rows :]
            self._text, self._n_ids, self._n_rows = whole, len(ids), len(rows)
        else:
            part = text, ids, rows, tops
            self._text += text
            self._n_ids, self._n_rows = self._n_ids + len(ids), self._n_rows + len(rows)
        about |= {"output_token_logprobs": part[2], "output_top_logprobs": part[3]}
        return {
            **found,
            "meta_info": about,
            "text": part[0],
            **({"output_ids": part[1]} if "output_ids" in found else {}),
        }
