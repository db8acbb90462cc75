"""What an application asked its server for, read off the body of a request as far as it can be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.bounds import MOST_TOKENS
from tui_entropy.records.knobs import BY_NAME, check
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import NO_ID, PromptToken
from tui_entropy.stages.registry import STAGE_KNOBS

NUMBERS = tuple(knob.name for knob in STAGE_KNOBS if knob.is_number)
UNSAID = {name: BY_NAME[name].off for name in NUMBERS if BY_NAME[name].off is not None} | {"temperature": 1.0}
"""Knobs that nothing was said of: what the server does then is not known here."""
MOST_SHOWN_CHARS = 2**16
"""Of a body that is neither a prompt nor a conversation."""
MOST_LOGPROBS = 10**6
MOST_NAME = 40
"""Characters of a model's name that are shown, the last ones."""


@dataclass(frozen=True)
class Asked:
    """A request, as it is shown."""

    prompt: str
    system: str | None
    chat: bool
    tokens: tuple[PromptToken, ...]
    """Of the whole prompt: one of each id, or a single one that has all of its text."""
    knobs: Knobs
    given_knobs: tuple[str, ...]
    """The fields of it that the request says something of."""
    max_tokens: int
    n_logprobs: int
    """How many of the most probable tokens are asked for."""
    n_answers: int
    model: str
    """As it is named in the request; empty where it is not."""


def asked(body: bytes) -> Asked:
    """Never fails: of what is no JSON object the beginning is shown as it is."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return _shown(body.decode("utf-8", "replace")[:MOST_SHOWN_CHARS], {})
    messages, prompt = fields.get("messages"), fields.get("prompt", fields.get("text", fields.get("input_ids")))
    if isinstance(messages, list) and messages:
        return _conversation([(_word(one, "role"), _content(one)) for one in messages], fields)
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, list) and prompt and all(type(one) is int and 0 <= one < 2**31 for one in prompt):
        ids = tuple(PromptToken(one, b"", "") for one in prompt)
        return _shown(f"{len(ids)} token ids", fields, tokens=ids)
    if isinstance(prompt, str):
        return _shown(prompt, fields)
    return _shown(json.dumps(fields, ensure_ascii=False)[:MOST_SHOWN_CHARS], fields)


def _conversation(turns: list[tuple[str, str]], fields: dict[str, Any]) -> Asked:
    whole = "\n\n".join(f"{role}: {content}" for role, content in turns)
    if [role for role, _ in turns] in (["user"], ["system", "user"]):
        system = turns[0][1] if len(turns) == 2 else None
        return _shown(turns[-1][1], fields, _piece(whole), system, chat=True)
    return _shown(whole, fields, chat=True)


def _shown(
    prompt: str,
    fields: dict[str, Any],
    tokens: tuple[PromptToken, ...] = (),
    system: str | None = None,
    chat: bool = False,
) -> Asked:
    limits = (fields.get(name) for name in ("max_completion_tokens", "max_tokens", "n_predict", "max_new_tokens"))
    limit = next((one for one in limits if type(one) is int and 0 < one <= MOST_TOKENS), MOST_TOKENS)
    n_answers, model = fields.get("n"), fields.get("model")
    prompt, system = _whole(prompt), None if system is None else _whole(system)
    return Asked(
        prompt, system, chat, tokens or _piece(prompt), *_knobs(fields), limit, _n_logprobs(fields),
        n_answers if type(n_answers) is int else 1, _whole(model)[-MOST_NAME:] if isinstance(model, str) else "",
    )  # fmt: skip


def _piece(text: str) -> tuple[PromptToken, ...]:
    text = _whole(text)
    return (PromptToken(NO_ID, text.encode(), text),) if text else ()


def _whole(text: str) -> str:
    """Without halves of characters, which JSON can name and UTF-8 has none for."""
    return text.encode("utf-8", "replace").decode()


def _word(given: Any, name: str) -> str:
    value = given.get(name) if isinstance(given, dict) else None
    return value if isinstance(value, str) else "?"


def _content(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        kinds = ((one.get("text"), _word(one, "type")) for one in content if isinstance(one, dict))
        return "".join(text if isinstance(text, str) else f"[{kind}]" for text, kind in kinds)
    if isinstance(content, str):
        return content
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return json.dumps(calls, ensure_ascii=False) if calls else ""


def _knobs(fields: dict[str, Any]) -> tuple[Knobs, tuple[str, ...]]:
    """Those that are given and that our own chain knows of, all others off; and which they are."""
    knobs, given = replace(Knobs(), **UNSAID), []
    for name in (*NUMBERS, "seed"):
        value = fields.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
            turned = replace(knobs, **{name: int(value) if BY_NAME[name].whole else float(value)})
            try:
                check(turned)
            except UserError:
                continue
            knobs = turned
            given.append(name)
    return knobs, tuple(given)


def _n_logprobs(fields: dict[str, Any]) -> int:
    for name in ("top_logprobs", "logprobs", "n_probs", "top_logprobs_num"):
        if type(value := fields.get(name)) is int:
            return max(0, min(value, MOST_LOGPROBS))
    return 0
