"""The tokens of a prompt from what a server says of each."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from tui_entropy.records.step import PromptToken


def tokens_of_bytes(pieces: Iterable[tuple[int, bytes]]) -> tuple[PromptToken, ...]:
    """pieces: (id, bytes). The text of a token that ends inside a character is empty; the one that ends it has it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return tuple(PromptToken(token_id, piece, decoder.decode(piece)) for token_id, piece in pieces)


def tokens_of_texts(ids: Iterable[int], texts: Iterable[str]) -> tuple[PromptToken, ...]:
    """Where only the text that each token adds is known."""
    return tuple(PromptToken(one, text.encode(), text) for one, text in zip(ids, texts, strict=True))
