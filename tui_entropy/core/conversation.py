"""A conversation in a file: JSON messages with a role and a content each, as chat APIs take them."""

from __future__ import annotations

import json
from typing import Any

from tui_entropy.core.errors import UserError

Turns = tuple[tuple[str, str], ...]
"""(role, content) of each message."""


def read_conversation(text: str, name: str) -> Turns | None:
    """The messages of a text that is a JSON array of them, or an object that has one as `messages`. None for a text
    that is neither. Raises UserError for messages that are not whole. name: of the file, for the sentence.
    """
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    messages = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(messages, list) or not all(isinstance(one, dict) and "role" in one for one in messages):
        return None
    if not messages:
        raise UserError(f"{name} has no messages: wanted one at least, such as {EXAMPLE}")
    return tuple(_turn(one, n, name) for n, one in enumerate(messages, 1))


EXAMPLE = '[{"role": "user", "content": "Hello"}]'


def _turn(message: dict[str, Any], n: int, name: str) -> tuple[str, str]:
    role, content = message["role"], message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        kinds = {str(part.get("type")) for part in content} - {"text"}
        if kinds:
            raise UserError(f"message {n} of {name} holds {sorted(kinds)[0]}: only text can be read")
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise UserError(f"message {n} of {name} lacks a role or a content that is text: wanted such as {EXAMPLE}")
    return role, content
