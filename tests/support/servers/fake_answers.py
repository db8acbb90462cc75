"""Answers of a fake server as the servers of that kind write them; an event is what a client reads after `data: `."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from fake_model import VOCABULARY, FakeModel, bytes_of, is_inside_character
from fake_requests import Asked, Json, Odd

NAME = "fake"


@dataclass(frozen=True)
class Token:
    index: int
    """After the prompt, from 0."""
    token_id: int
    logprob: float | None
    top: tuple[tuple[int, float | None], ...]
    """Most likely first, no more than were asked for."""
    completed: bytes | None
    """The bytes that it adds to the text: of a character with its last token, None with those before."""

    @property
    def text(self) -> str:
        return readable(self.completed or b"")


class Writer:
    """The tokens of one request, and what a server of its kind says about them."""

    def __init__(self, kind: str, model: FakeModel, odd: Odd, asked: Asked) -> None:
        self.kind, self.model, self.odd, self.asked = kind, model, odd, asked

    def tokens(self) -> Iterator[Token]:
        held = b""
        for index in range(self.asked.max_tokens):
            position = len(self.asked.prompt) + index
            token_id = self.model.take(position, index, self.asked.temperature, self.asked.seed, self.asked.bias)
            held += VOCABULARY[token_id]
            inside = is_inside_character(held)
            yield Token(index, token_id, *self.told_of(position, index, token_id), None if inside else held)
            held = held if inside else b""

    def told_of(
        self, position: int, index: int, token_id: int
    ) -> tuple[float | None, tuple[tuple[int, float | None], ...]]:
        """Its log-probability, and those of alternatives."""
        asked, odd, model = self.asked, self.odd, self.model
        if asked.k is None or odd.no_logprobs:
            return None, ()
        listed = model.ranked(position, asked.temperature or 1.0) if odd.processed else model.ranked(position)
        if odd.processed and asked.bias:
            weighed = [(i, value + asked.bias.get(i, 0.0)) for i, value in listed]
            total = math.log(sum(math.exp(value) for _, value in weighed))
            listed = tuple(sorted(((i, value - total) for i, value in weighed), key=lambda each: -each[1]))
        logprob: float | None = next(value for i, value in listed if i == token_id)
        top: tuple[tuple[int, float | None], ...] = listed if asked.k < 0 else listed[: asked.k]
        if odd.zero_logprobs:
            logprob, top = 0.0, tuple((i, 0.0) for i, _ in top)
        if every(odd.null_every, index):
            logprob = None
        if every(odd.not_finite_every, index):
            logprob = math.nan
            top = tuple((i, -math.inf) for i, _ in top)
        return logprob, top

    def groups(self) -> Iterator[list[Token]]:
        """Tokens of one event each."""
        group: list[Token] = []
        for token in self.tokens():
            group.append(token)
            if len(group) >= self.odd.tokens_per_event:
                yield group
                group = []
        if group:
            yield group

    def heard(self, tokens: list[Token]) -> list[Token]:
        """Those that have an entry of their own."""
        return [
            each
            for each in tokens
            if not every(self.odd.missing_every, each.index)
            and not (self.kind == "llamacpp" and each.completed is None)  # held back, and never told
        ]

    def ids(self, tokens: list[Token]) -> list[int]:
        return [self.told(each.token_id) for each in tokens]

    def told(self, token_id: int) -> int:
        return (token_id + 1) % len(VOCABULARY) if self.odd.wrong_ids else token_id

    def flag(self, name: str) -> bool:
        return bool(self.asked.body.get(name)) and not self.odd.no_ids

    def name(self, token_id: int, text: str | None = None) -> str:
        """A token as a key: its id where that was asked for, else its text, which is empty inside a character."""
        if self.flag("return_tokens_as_token_ids"):
            return f"token_id:{self.told(token_id)}"
        return valid_text(VOCABULARY[token_id]) if text is None else text

    # --- Log-probabilities ---

    def legacy(self, tokens: list[Token]) -> Json | None:
        """Of `/v1/completions`: alternatives keyed by text, which two tokens may share, with the chosen one added."""
        if self.asked.k is None or self.odd.no_logprobs:
            return None
        heard = self.heard(tokens)
        names = [self.name(each.token_id, each.text) for each in heard]
        tops = [
            {name: each.logprob} | {self.name(i): value for i, value in each.top if i != each.token_id}
            for name, each in zip(names, heard, strict=True)
        ]
        offsets = list(accumulate(map(len, names), initial=0))[:-1]
        return {
            "tokens": self.merged(names, heard),
            "token_logprobs": self.merged_values([each.logprob for each in heard], heard),
            "top_logprobs": self.merged_values(tops, heard) if self.asked.k else None,
            "text_offset": self.merged_values(offsets, heard),
        }

    def content(self, tokens: list[Token], with_ids: bool) -> Json | None:
        """Of chat, and of every route of llama.cpp, which tells ids."""
        if self.asked.k is None or self.odd.no_logprobs:
            return None
        heard = self.heard(tokens)
        entries = [
            self.entry(each.token_id, each.logprob, with_ids, each.completed or b"")
            | {"top_logprobs": [self.entry(i, value, with_ids) for i, value in each.top]}
            for each in heard
        ]
        for at in reversed(range(1, len(heard))):
            if every(self.odd.merged_every, heard[at].index):
                entries[at]["token"] = entries[at - 1]["token"] + entries[at]["token"]
                entries[at]["bytes"] = entries[at - 1]["bytes"] + entries[at]["bytes"]
                del entries[at - 1]
        return {"content": entries}

    def entry(self, token_id: int, logprob: float | None, with_ids: bool, completed: bytes | None = None) -> Json:
        """`completed`: of a chosen token, the bytes that came out with it."""
        data = VOCABULARY[token_id] if completed is None else completed
        if self.flag("return_tokens_as_token_ids"):
            name = self.name(token_id)  # and the bytes of an alternative are, by a fault of vLLM, those of this name
            return {"token": name, "logprob": logprob, "bytes": list(name.encode() if completed is None else data)}
        entry: Json = {"token": readable(data), "bytes": list(data), "logprob": logprob}
        return {"id": self.told(token_id), **entry} if with_ids else entry

    def merged(self, names: list[str], tokens: list[Token]) -> list[str]:
        out = list(names)
        for at in reversed(range(1, len(tokens))):
            if every(self.odd.merged_every, tokens[at].index):
                out[at] = out[at - 1] + out[at]
                del out[at - 1]
        return out

    def merged_values(self, values: list[Any], tokens: list[Token]) -> list[Any]:
        return [
            value
            for at, value in enumerate(values)
            if not (at + 1 < len(tokens) and every(self.odd.merged_every, tokens[at + 1].index))
        ]

    def rows(self, tokens: list[Token]) -> tuple[list[Any], list[Any]]:
        """SGLang's: [log-probability, id, text] of the chosen tokens, and lists of those of alternatives."""
        text = bool(self.asked.body.get("return_text_in_logprobs"))

        def row(token_id: int, logprob: float | None) -> list[Any]:
            return [logprob, self.told(token_id), readable(VOCABULARY[token_id]) if text else None]

        heard = self.heard(tokens)
        tops = [[row(i, value) for i, value in each.top] if each.top else None for each in heard]
        return [row(each.token_id, each.logprob) for each in heard], tops


def every(count: int, index: int) -> bool:
    return bool(count) and index % count == count - 1


def readable(data: bytes) -> str:
    return data.decode(errors="replace")


def valid_text(data: bytes) -> str:
    """Empty where it is none."""
    return data.decode(errors="ignore")


# --- Whole streams -------------------------------------------------------------------------------------------


def usage(asked: Asked, n_tokens: int) -> Json:
    total = len(asked.prompt) + n_tokens
    return {"prompt_tokens": len(asked.prompt), "completion_tokens": n_tokens, "total_tokens": total}


def events(path: str, kind: str, model: FakeModel, odd: Odd, asked: Asked) -> Iterator[tuple[Json | None, int]]:
    """(event, tokens written so far), in order; `[DONE]` is not among them."""
    writer = Writer(kind, model, odd, asked)
    if path == "/completion":
        source = native_events(writer)
    elif path == "/generate":
        source = sglang_events(writer)
    else:
        source = openai_events(writer, chat=path.endswith("/chat/completions"))
    for event, n_tokens in source:
        if odd.bare_events:
            yield None, n_tokens
            yield {"id": "cmpl-1", "object": "ping", "model": NAME}, n_tokens
        yield event, n_tokens


def openai_events(writer: Writer, chat: bool) -> Iterator[tuple[Json, int]]:
    asked, kind, done = writer.asked, writer.kind, 0
    shape = "chat.completion.chunk" if chat else "text_completion"

    def chunk(choices: list[Json], **more: Any) -> Json:
        return {"id": "cmpl-1", "object": shape, "created": 0, "model": NAME, "choices": choices, **more}

    told = {"prompt_token_ids": asked.prompt} if writer.flag("return_token_ids") else {}
    if chat:
        yield chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], **told), 0
        told = {}
    for group in writer.groups():
        done += len(group)
        text = "".join(each.text for each in group)
        ended = "length" if done >= asked.max_tokens else None
        if kind == "llamacpp" and not ended and all(each.completed is None for each in group):
            continue
        choice: Json = {"index": 0, "finish_reason": ended}
        if chat or kind == "llamacpp":
            choice["logprobs"] = writer.content(group, with_ids=kind == "llamacpp")
        else:
            choice["logprobs"] = writer.legacy(group)
        choice |= {"delta": {"content": text}} if chat else {"text": text}
        if writer.flag("return_token_ids") and kind != "llamacpp":
            choice["token_ids"] = writer.ids(group)
        if told:
            choice |= told
            told = {}
        yield chunk([choice]), done
    if (asked.body.get("stream_options") or {}).get("include_usage") and not writer.odd.no_usage:
        yield chunk([], usage=usage(asked, done)), done


def native_events(writer: Writer) -> Iterator[tuple[Json, int]]:
    """llama.cpp's `/completion`: tokens inside a character are held back, and have no probabilities ever."""
    done = 0
    for token in writer.tokens():
        done += 1
        if token.completed is None:
            continue
        event: Json = {
            "index": 0, "content": token.text, "tokens": writer.ids([token]),
            "stop": False, "id_slot": -1, "tokens_predicted": done, "tokens_evaluated": len(writer.asked.prompt),
        }  # fmt: skip
        if probabilities := native_probabilities(writer, token):
            event["completion_probabilities"] = probabilities
        yield event, done
    yield {
        "index": 0, "content": "", "tokens": [], "stop": True, "stop_type": "limit", "model": NAME,
        "tokens_predicted": done, "tokens_evaluated": len(writer.asked.prompt), "truncated": False,
    }, done  # fmt: skip


def native_probabilities(writer: Writer, token: Token) -> list[Json]:
    content = writer.content([token], with_ids=True)
    if not content or not content["content"] or not writer.asked.k:
        return []
    (entry,) = content["content"]
    if writer.asked.body.get("post_sampling_probs"):
        entry["top_probs"] = [as_probability(each) for each in entry.pop("top_logprobs")]
        entry = as_probability(entry)
    return [entry]


def as_probability(entry: Json) -> Json:
    logprob = entry.pop("logprob")
    return entry | {"prob": None if logprob is None else math.exp(logprob)}


def sglang_events(writer: Writer) -> Iterator[tuple[Json, int]]:
    """SGLang's `/generate`: each event has the whole text so far, and all rows so far."""
    done, text = 0, ""
    rows: list[Any] = []
    tops: list[Any] = []
    ids: list[int] = []
    for group in writer.groups():
        done += len(group)
        text += "".join(each.text for each in group)
        ids += writer.ids(group)
        meta: Json = {"id": "1", "prompt_tokens": len(writer.asked.prompt), "completion_tokens": done}
        meta["finish_reason"] = {"type": "length", "length": done} if done >= writer.asked.max_tokens else None
        if writer.asked.k is not None and not writer.odd.no_logprobs:
            new_rows, new_tops = writer.rows(group)
            rows, tops = rows + new_rows, tops + new_tops
            meta |= {"output_token_logprobs": rows, "output_top_logprobs": tops}
        yield {"text": text, "output_ids": list(ids), "meta_info": meta}, done


def whole(path: str, kind: str, model: FakeModel, odd: Odd, asked: Asked) -> Json:
    """The answer where no stream was asked for."""
    writer = Writer(kind, model, odd, asked)
    tokens = list(writer.tokens())
    if path == "/generate":
        *_, (last, _) = sglang_events(writer)
        if asked.body.get("logprob_start_len") == 0:  # of the prompt too, the first of which nothing comes before
            rows = [
                [dict(model.ranked(n))[i] if n else None, i, readable(bytes_of([i]))]
                for n, i in enumerate(asked.prompt)
            ]
            last["meta_info"]["input_token_logprobs"] = rows
            tops = [
                [[value, i, readable(bytes_of([i]))] for i, value in model.ranked(n)[: asked.k]] if n else None
                for n in range(len(asked.prompt))
            ]
            last["meta_info"] |= {"input_top_logprobs": tops} if asked.k else {}
        return last
    if path == "/completion":
        told = [event for event, _ in native_events(writer)]
        answer = told[-1] | {
            "content": readable(bytes_of([each.token_id for each in tokens])),
            "tokens": writer.ids(tokens) if asked.body.get("return_tokens") else [],
        }
        if entries := [entry for event in told for entry in event.get("completion_probabilities", [])]:
            answer["completion_probabilities"] = entries
        return answer
    chat = path.endswith("/chat/completions")
    legacy = not chat and kind != "llamacpp"
    text = readable(bytes_of([each.token_id for each in tokens]))
    about: Json = {}
    choice: Json = {"index": 0, "finish_reason": "length"}
    choice["logprobs"] = writer.legacy(tokens) if legacy else writer.content(tokens, with_ids=kind == "llamacpp")
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    if writer.flag("return_token_ids") and kind != "llamacpp":
        choice["token_ids"] = writer.ids(tokens)
        (about if chat else choice)["prompt_token_ids"] = asked.prompt
    shape = "chat.completion" if chat else "text_completion"
    answer = {"id": "cmpl-1", "object": shape, "created": 0, "model": NAME, "choices": [choice], **about}
    return answer if odd.no_usage else answer | {"usage": usage(asked, len(tokens))}
