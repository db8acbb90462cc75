"""Answer: a text that is written, as OpenAI's servers tell it, whole or chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tui_entropy.openai_api import logprobs
from tui_entropy.openai_api.body import Wanted
from tui_entropy.openai_api.stop_text import StopText
from tui_entropy.records.events import STOP_STRING, Ended, Started
from tui_entropy.records.step import Step

FINISHED = {"token limit": "length", "context full": "length"}
"""Reason of an end -> finish_reason, where that is not 'stop'."""
KINDS = {False: "text_completion", True: "chat.completion"}


class Answer:
    """What is told of one text. It hears of steps, and gives out chunks, or all of it at last."""

    def __init__(self, wanted: Wanted, model: str, started: Started) -> None:
        self._wanted, self._model, self._started = wanted, model, started
        self._created = int(time.time())
        self._ends, self._text = frozenset(started.end_ids), StopText(wanted.write.stop)
        self._said: list[str] = []
        self._steps: list[tuple[Step, int]] = []
        """Each with the character of the answer at which it begins."""
        self._length = 0

    # --- In ------------------------------------------------------------------------------------------------------

    def take(self, step: Step) -> str:
        """A token was written. What can be said now; a character that is not whole, and the beginning of what may be
        a stop string, wait."""
        text = "" if step.token_id in self._ends else step.text
        self._steps.append((step, self._length))
        self._length += len(text)
        said = self._text.push(text)
        self._said.append(said)
        return said

    def finish(self, ended: Ended) -> tuple[str, dict[str, Any]]:
        """The text has ended: what is still to be said, and the fields of a choice that tell of the end."""
        rest = self._text.finish()
        self._said.append(rest)
        stopped_by = self._text.stopped_by if ended.reason == STOP_STRING else None
        return rest, {"finish_reason": FINISHED.get(ended.reason, "stop"), "stop_reason": stopped_by}

    # --- Out -----------------------------------------------------------------------------------------------------

    def first_chunk(self) -> dict[str, Any]:
        """The chunk before any token."""
        prompt_ids = self._prompt_ids
        if self._wanted.chat:
            return self._chunk({"delta": {"role": "assistant", "content": ""}}, **prompt_ids)
        return self._chunk({"text": "", **prompt_ids})

    def chunk(self, said: str) -> dict[str, Any]:
        """The chunk of the newest token."""
        return self._chunk(self._spoken(said) | self._numbers(self._steps[-1:]))

    def last_chunk(self, rest: str, finish: dict[str, Any]) -> dict[str, Any]:
        return self._chunk(self._spoken(rest) | finish)

    def usage_chunk(self) -> dict[str, Any]:
        return self._about(".chunk") | {"choices": [], "usage": self.usage}

    def whole(self, finish: dict[str, Any]) -> dict[str, Any]:
        """All of it, once it is finished."""
        text = "".join(self._said)
        said = {"message": {"role": "assistant", "content": text}} if self._wanted.chat else {"text": text}
        choice = {"index": 0, **said, **self._numbers(self._steps), **finish}
        about = self._about("")
        about |= self._prompt_ids if self._wanted.chat else {}
        choice |= {} if self._wanted.chat else self._prompt_ids
        return about | {"choices": [choice], "usage": self.usage}

    @property
    def usage(self) -> dict[str, int]:
        n_prompt, n = len(self._started.prompt_tokens), len(self._steps)
        return {"prompt_tokens": n_prompt, "completion_tokens": n, "total_tokens": n_prompt + n}

    # --- Parts ---------------------------------------------------------------------------------------------------

    def _about(self, part: str) -> dict[str, Any]:
        """part: '.chunk' for a chunk, which completions do not tell apart."""
        kind = KINDS[self._wanted.chat] + (part if self._wanted.chat else "")
        return {
            "id": self._started.request,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "run": self._started.run,
            "seed": self._started.knobs.seed,
        }

    def _chunk(self, choice: dict[str, Any], **more: Any) -> dict[str, Any]:
        whole = {"index": 0, "logprobs": None, "finish_reason": None} | choice
        usage = {"usage": None} if self._wanted.include_usage else {}
        return self._about(".chunk") | more | {"choices": [whole]} | usage

    def _spoken(self, said: str) -> dict[str, Any]:
        if not self._wanted.chat:
            return {"text": said}
        return {"delta": {"content": said} if said else {}}

    def _numbers(self, steps: Sequence[tuple[Step, int]]) -> dict[str, Any]:
        """The fields of a choice that tell of its tokens."""
        n, as_ids = self._wanted.n_alternatives, self._wanted.as_ids
        told: dict[str, Any] = {"logprobs": None}
        if n is not None and self._wanted.chat:
            told["logprobs"] = {"content": [logprobs.content(step, n, as_ids) for step, _ in steps], "refusal": None}
        elif n is not None:
            told["logprobs"] = logprobs.legacy(steps, n, as_ids)
        if self._wanted.token_ids:
            told["token_ids"] = [step.token_id for step, _ in steps]
        return told

    @property
    def _prompt_ids(self) -> dict[str, Any]:
        if not self._wanted.token_ids:
            return {}
        return {"prompt_token_ids": [token.token_id for token in self._started.prompt_tokens]}
