"""The tokens of a prompt from what a server says of each."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from tui_entropy.records.step import PromptToken


def tokens_of_bytes(pieces: Iterable[tuple[int, bytes]]) -> tuple[PromptToken, ...]:
    """pieces: (id, bytes). The text of a token that ends inside a character is empty; the one that ends it has it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return tuple(PromptToken(token_id, piece, decoder.decode(piece)) for token_id, piece in pieces)


def tokens_of_texts(ids: Iterable[int], texts: Iterable[str]) -> tuple[PromptToken, ...]:
    """Where only the text that each token adds is known."""
    return tuple(PromptToken(one, text.encode(), text) for one, text in zip(ids, texts, strict=True))


UNREADABLE = "\ufffd"
"""What stands for a part of a character."""


def tokens_of_text(ids: Sequence[int], texts: Sequence[str], whole: str) -> tuple[PromptToken, ...]:
    """Of a text that is known. texts: what each token says alone, with UNREADABLE where it is part of a character. Of
    several such parts in a row the last one says what they do together, and nobody knows the bytes of each.

    Example: ("a", UNREADABLE, UNREADABLE, "b") of a, e with an accent, b: the second says nothing, the third the e.
    """
    said, at, n_parts = list(texts), 0, 0
    for n, text in enumerate(texts):
        if UNREADABLE in text:
            n_parts, said[n] = n_parts + 1, ""
            continue
        found = whole.find(text, at + 1) if n_parts else at if whole.startswith(text, at) else -1
        if found < 0 and n:
            return tokens_of_texts(ids, texts)
        if found < 0:
            continue  # what a prompt begins with is no part of the text
        if n_parts:
            said[n - 1], n_parts = whole[at:found], 0
        at = found + len(text)
    if n_parts:
        said[-1] = whole[at:]
    return tuple(
        PromptToken(one, b"" if UNREADABLE in text else text.encode(), what)
        for one, text, what in zip(ids, texts, said, strict=True)
    )
