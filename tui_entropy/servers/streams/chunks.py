"""What one event of a stream says, whichever of the known shapes it has.

The shape is told by what is there and not by the kind of server, since servers take each other's shapes:

    legacy     choices[0].logprobs = {tokens: [...], token_logprobs: [...], top_logprobs: [{token: logprob}]}
    content    choices[0].logprobs = {content: [{token, logprob, bytes, id?, top_logprobs: [the same]}]}
    llama.cpp  completion_probabilities = [an entry as in content], or with prob and top_probs after sampling
    SGLang     meta_info.output_token_logprobs = [[logprob, id, text]], output_top_logprobs = [[...]]

A token may be named 'token_id:42' in place of its text. Whatever is no number, or missing, is unknown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from tui_entropy.servers.streams.told_token import Alternative, Chunk, ToldToken

DONE = b"[DONE]"
NO_PROBABILITY = -9999.0
"""What some servers write for a token that cannot come (vLLM), which JSON has no number for."""
ID_PREFIX = "token_id:"
MOST_LOGIT = 1e30
"""What is larger is no number of a model."""


class NoChunk(ValueError):
    """Data of an event that is not JSON, or not an object."""


def chunk_of(data: bytes) -> Chunk:
    """Raises NoChunk."""
    if data.strip() == DONE:
        return Chunk(is_done=True)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as wrong:
        raise NoChunk(f"an event that is no JSON: {data[:80]!r}") from wrong
    if found is None:  # some servers begin with nothing
        return Chunk()
    if not isinstance(found, dict):
        raise NoChunk(f"an event that is no object: {data[:80]!r}")
    return chunk_of_object(found)


def chunk_of_object(found: dict[str, Any]) -> Chunk:
    """Of an event, or of a whole answer that was not streamed."""
    if error := found.get("error"):
        return Chunk(error=error_text(error))
    if "choices" in found:
        return _of_choices(found)
    if "meta_info" in found:
        return _of_sglang(found)
    return _of_llamacpp(found)


def error_text(error: object) -> str:
    """What an error of a server says, in its own words."""
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or error.get("error") or error
        return error_text(message) if isinstance(message, dict) and message is not error else str(message)
    return str(error)


# --- The shapes ------------------------------------------------------------------------------------------------


def _of_choices(found: dict[str, Any]) -> Chunk:
    choice = _first_object(found["choices"])
    usage = _object(found.get("usage"))
    held = _object(choice.get("delta")) or _object(choice.get("message"))
    text = choice.get("text") if isinstance(choice.get("text"), str) else held.get("content")
    thought = held.get("reasoning_content") or held.get("reasoning")
    logprobs = _object(choice.get("logprobs"))
    content = logprobs.get("content")
    tokens = _entries(content) if isinstance(content, list) else _legacy(logprobs)
    ids = _ids(choice.get("token_ids"))
    return Chunk(
        tokens=tokens,
        text=(thought if isinstance(thought, str) else "") + (text if isinstance(text, str) else ""),
        token_ids=ids,
        prompt_ids=_ids(choice.get("prompt_token_ids")) or _ids(found.get("prompt_token_ids")),
        finish=_word(choice.get("finish_reason")),
        n_tokens=_count(usage.get("completion_tokens")),
    )


def _legacy(logprobs: dict[str, Any]) -> tuple[ToldToken, ...]:
    names = _list(logprobs.get("tokens"))
    values, tops = _list(logprobs.get("token_logprobs")), _list(logprobs.get("top_logprobs"))
    told = []
    for place, name in enumerate(names):
        top = tops[place] if place < len(tops) else None
        others = (_named(text, value) for text, value in _object(top).items())
        token_id, text = _identity(name)
        value = _logprob(values[place]) if place < len(values) else None
        told.append(ToldToken(token_id, text, None, value, _ranked(others)))
    return tuple(told)


def _entries(content: Sequence[object]) -> tuple[ToldToken, ...]:
    told = []
    for entry in map(_object, content):
        one = _entry(entry)
        others = entry.get("top_logprobs") if "top_logprobs" in entry else entry.get("top_probs")
        told.append(
            ToldToken(
                one.token_id, one.text, one.token_bytes, None if math.isnan(one.logprob) else one.logprob,
                _ranked(map(_entry, map(_object, _list(others)))),
            )
        )  # fmt: skip
    return tuple(told)


def _of_llamacpp(found: dict[str, Any]) -> Chunk:
    text, stop = found.get("content"), found.get("stop_type")
    return Chunk(
        tokens=_entries(_list(found.get("completion_probabilities"))),
        text=text if isinstance(text, str) else "",
        token_ids=_ids(found.get("tokens")) or None,
        finish=_word(stop) if found.get("stop") else "",
        n_tokens=_count(found.get("tokens_predicted")),
        is_done=bool(found.get("stop")),
    )


def _of_sglang(found: dict[str, Any]) -> Chunk:
    about = _object(found["meta_info"])
    rows, tops = _list(about.get("output_token_logprobs")), _list(about.get("output_top_logprobs"))
    told = []
    for place, row in enumerate(rows):
        one = _row(row)
        others = map(_row, _list(tops[place])) if place < len(tops) else ()
        value = None if math.isnan(one.logprob) else one.logprob
        told.append(ToldToken(one.token_id, one.text, None, value, _ranked(others)))
    finish = _object(about.get("finish_reason")).get("type")
    text = found.get("text")
    return Chunk(
        tokens=tuple(told),
        text=text if isinstance(text, str) else "",
        token_ids=_ids(found.get("output_ids")),
        finish=_word(finish),
        n_tokens=_count(about.get("completion_tokens")),
    )


# --- Their parts -----------------------------------------------------------------------------------------------


def _entry(entry: dict[str, Any]) -> Alternative:
    """Its logprob is NaN where none is given."""
    token_id, text = _identity(entry.get("token"))
    if isinstance(given := entry.get("id"), int) and not isinstance(given, bool):
        token_id = given
    value = _logprob(entry.get("logprob"))
    if value is None and isinstance(share := entry.get("prob"), int | float) and 0 <= share <= 1:
        value = math.log(share) if share else NO_PROBABILITY
    named_by_id = token_id is not None and not text
    return Alternative(
        math.nan if value is None else value, token_id, text, None if named_by_id else _bytes(entry.get("bytes"))
    )


def _row(row: object) -> Alternative:
    """[logprob, id, text or null]"""
    value, token_id, text = (*_list(row), None, None, None)[:3]
    logprob = _logprob(value)
    return Alternative(
        math.nan if logprob is None else logprob,
        token_id if isinstance(token_id, int) else None,
        text if isinstance(text, str) else "",
    )


def _named(name: str, value: object) -> Alternative:
    token_id, text = _identity(name)
    logprob = _logprob(value)
    return Alternative(math.nan if logprob is None else logprob, token_id, text)


def _identity(name: object) -> tuple[int | None, str]:
    """(id, text) of a token by what it is called."""
    if not isinstance(name, str):
        return None, ""
    digits = name.removeprefix(ID_PREFIX)
    if digits != name and digits.isascii() and digits.isdigit():
        return int(digits), ""
    return None, name


def _ranked(others: Iterable[Alternative]) -> tuple[Alternative, ...]:
    """Those with a probability, each token once, the most probable first."""
    known: dict[object, Alternative] = {}
    for one in others:
        if not math.isnan(one.logprob):
            key = one.token_id if one.token_id is not None else one.token_bytes or one.text
            if key not in known or known[key].logprob < one.logprob:
                known[key] = one
    return tuple(sorted(known.values(), key=lambda one: -one.logprob))


def _logprob(value: object) -> float | None:
    """None for what is no log-probability. Raw logits, which some servers can be set to give, may be above 0 and
    stay: whoever adds up their exponentials sees that they are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value > MOST_LOGIT:
        return None
    return max(float(value), NO_PROBABILITY) if value > -MOST_LOGIT else NO_PROBABILITY


def _bytes(given: object) -> bytes | None:
    if not isinstance(given, list):
        return None
    try:
        return bytes(given)
    except (TypeError, ValueError):
        return None


def _ids(given: object) -> tuple[int, ...] | None:
    if not isinstance(given, list) or not all(isinstance(one, int) for one in given):
        return None
    return tuple(given)


def _count(given: object) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None


def _word(given: object) -> str:
    return given if isinstance(given, str) else ""


def _object(given: object) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _list(given: object) -> list[Any]:
    return given if isinstance(given, list) else []


def _first_object(given: object) -> dict[str, Any]:
    return _object(next(iter(_list(given)), None))
