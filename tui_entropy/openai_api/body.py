"""The body of a request, read and checked: which text it asks for, and what is to be told of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.openai_api.errors import ApiError, wrong
from tui_entropy.openai_api.unsupported import asks_nothing
from tui_entropy.records.bounds import MAX_CHARS, MOST_TOKENS
from tui_entropy.records.commands import Message, Write
from tui_entropy.records.knobs import BY_NAME, check
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.registry import STAGE_KNOBS

MOST_STOPS, MOST_STOP_CHARS = 16, 1000
MOST_ALTERNATIVES = int(BY_NAME["n_candidates"].high)
MOST_IDS, MOST_MESSAGES = 2**20, 2**16
NUMBERS = (*(knob.name for knob in STAGE_KNOBS if knob.is_number), "seed")
"""Knobs that a request may turn, by their own names."""
BANNED = -100
"""A logit bias that means never."""


@dataclass(frozen=True)
class Usual:
    """What holds for whatever a request leaves unsaid."""

    knobs: Knobs
    max_tokens: int
    vocab: int


@dataclass(frozen=True)
class Wanted:
    """What a request asks for."""

    write: Write
    chat: bool
    stream: bool
    include_usage: bool
    n_alternatives: int | None
    """How many with each token; None for no log-probabilities."""
    token_ids: bool
    """Whether the ids of prompt and answer are told."""
    as_ids: bool
    """Whether tokens are called by their ids where log-probabilities are told."""
    ignored: tuple[str, ...]
    """Fields that nothing is done about."""


def decoded(body: bytes) -> dict[str, Any]:
    """The fields of a body, without those that are null. Raises ApiError for what is no JSON object."""
    try:
        fields = msgspec.json.decode(body)
    except Exception as broken:  # nested too deeply, no UTF-8, ...: the decoder raises more than its own
        raise ApiError(400, f"the body is no JSON: {broken}") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "the body is no JSON object: wanted an object of fields")
    return {name: value for name, value in fields.items() if value is not None}


def wanted(fields: dict[str, Any], chat: bool, usual: Usual, request: str) -> Wanted:
    """What is asked for. request: the name that it gets. Raises ApiError for the first field that is wrong, and for
    what cannot be done here."""
    rest = dict(fields)
    rest.pop("model", None)  # looked at by whoever knows the names
    asked: dict[str, Any] = {"messages": _messages(rest)} if chat else _prompt(rest)
    limits = [n for name in ("max_tokens", "max_completion_tokens") if (n := _whole(rest, name, 1)) is not None]
    stream, options = _flag(rest, "stream"), rest.pop("stream_options", {})
    if not isinstance(options, dict) or not isinstance(options.get("include_usage") or False, bool):
        raise wrong("stream_options", "wanted an object such as {'include_usage': true}")
    n_alternatives = _chat_logprobs(rest) if chat else _whole(rest, "logprobs", 0, MOST_ALTERNATIVES)
    knobs = _knobs(rest, usual, n_alternatives)
    write = Write(
        asked.get("prompt", ""), None, False, min([*limits, MOST_TOKENS]) if limits else usual.max_tokens, knobs,
        messages=asked.get("messages", ()), token_ids=asked.get("token_ids", ()), stop=_stops(rest), request=request,
    )  # fmt: skip
    token_ids, as_ids = _flag(rest, "return_token_ids"), _flag(rest, "return_tokens_as_token_ids")
    ignored = tuple(name for name in rest if not asks_nothing(name, rest[name]))
    include_usage = bool(options.get("include_usage"))
    return Wanted(write, chat, stream, include_usage, n_alternatives, token_ids, as_ids, ignored)


# --- What is written from ----------------------------------------------------------------------------------------


def _prompt(rest: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Write that are its prompt."""
    prompt = rest.pop("prompt", None)
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return {"prompt": _text(prompt, "prompt")}
    if not isinstance(prompt, list) or not all(type(each) is int for each in prompt):
        raise wrong("prompt", "wanted one text, or the ids of one as whole numbers: several are not written at once")
    if not prompt or len(prompt) > MOST_IDS or not all(0 <= each <= 10**9 for each in prompt):
        raise wrong("prompt", "wanted at least one id, and none that no vocabulary has")
    return {"token_ids": tuple(prompt)}


def _messages(rest: dict[str, Any]) -> tuple[Message, ...]:
    given = rest.pop("messages", None)
    if not isinstance(given, list) or not 0 < len(given) <= MOST_MESSAGES:
        raise wrong("messages", "wanted a list of at least one {'role': ..., 'content': ...}")
    return tuple(_message(each, f"messages[{n}]") for n, each in enumerate(given))


def _message(given: Any, where: str) -> Message:
    role = given.get("role") if isinstance(given, dict) else None
    if not isinstance(role, str) or not 0 < len(role) <= 100:
        raise wrong(f"{where}.role", "wanted 'system', 'user', 'assistant' or another that the chat template knows")
    for name in ("tool_calls", "function_call", "tool_call_id", "audio", "refusal"):
        if given.get(name):
            raise wrong(f"{where}.{name}", "is not supported here: messages are text")
    content = given.get("content")
    if isinstance(content, list):
        content = "".join(_part(each, f"{where}.content[{n}]") for n, each in enumerate(content))
    if not isinstance(content, str):
        raise wrong(f"{where}.content", "wanted a text, or a list of {'type': 'text', 'text': ...}")
    return Message("system" if role == "developer" else _text(role, where), _text(content, f"{where}.content"))


def _part(given: Any, where: str) -> str:
    if not isinstance(given, dict) or given.get("type") != "text" or not isinstance(given.get("text"), str):
        raise wrong(where, "is not supported here: wanted {'type': 'text', 'text': ...}")
    return str(given["text"])


def _text(text: str, where: str) -> str:
    if len(text) > MAX_CHARS:
        raise wrong(where, f"has {len(text)} characters, more than any model reads")
    return text


# --- How ---------------------------------------------------------------------------------------------------------


def _knobs(rest: dict[str, Any], usual: Usual, n_alternatives: int | None) -> Knobs:
    """The usual ones with those that are given."""
    knobs = replace(usual.knobs, n_candidates=max(usual.knobs.n_candidates, n_alternatives or 0))
    for name in NUMBERS:
        if name in rest:
            value = _number(rest.pop(name), name)
            knobs = _checked(replace(knobs, **{name: 0 if (name, value) == ("top_k", -1) else value}), usual, name)
    bias = rest.pop("logit_bias", {})
    if not isinstance(bias, dict) or not all(_is_id(each) and _is_number(bias[each]) for each in bias):
        raise wrong("logit_bias", "wanted an object of token ids with a number each")
    if any(value not in (BANNED, 0) for value in bias.values()):
        raise wrong("logit_bias", f"only {BANNED} is done here, which bans a token")
    banned = tuple(int(each) for each, value in bias.items() if value == BANNED)
    return _checked(replace(knobs, banned=(*knobs.banned, *banned)), usual, "logit_bias")


def _checked(knobs: Knobs, usual: Usual, name: str) -> Knobs:
    try:
        check(knobs, usual.vocab)
    except UserError as mistake:
        raise wrong(name, str(mistake)) from None
    return knobs


def _number(value: Any, name: str) -> int | float:
    whole = BY_NAME[name].whole
    if not _is_number(value) or (whole and value != int(value)):
        raise wrong(name, f"wanted a {'whole ' * whole}number")
    return int(value) if whole else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**64 and value == value


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _stops(rest: dict[str, Any]) -> tuple[str, ...]:
    given = rest.pop("stop", [])
    stops = [given] if isinstance(given, str) else given
    right = isinstance(stops, list) and all(isinstance(each, str) and each for each in stops)
    if not right or len(stops) > MOST_STOPS or any(len(each) > MOST_STOP_CHARS for each in stops):
        raise wrong("stop", f"wanted a text, or at most {MOST_STOPS}, of 1 to {MOST_STOP_CHARS} characters")
    return tuple(stops)


def _chat_logprobs(rest: dict[str, Any]) -> int | None:
    on, n = _flag(rest, "logprobs"), _whole(rest, "top_logprobs", 0, MOST_ALTERNATIVES)
    if n and not on:
        raise wrong("top_logprobs", "needs logprobs: true")
    return (n or 0) if on else None


def _flag(rest: dict[str, Any], name: str) -> bool:
    value = rest.pop(name, False)
    if not isinstance(value, bool):
        raise wrong(name, "wanted true or false")
    return value


def _whole(rest: dict[str, Any], name: str, low: int, high: float = math.inf) -> int | None:
    value = rest.pop(name, None)
    if value is None or (type(value) is int and low <= value <= high):
        return value
    raise wrong(name, f"wanted a whole number, at least {low}" + (f" and at most {high}" if high < math.inf else ""))
