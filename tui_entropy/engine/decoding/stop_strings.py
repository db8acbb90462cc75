"""Texts at which writing ends, wherever the borders of tokens are in them."""

from __future__ import annotations

from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.tokenization.token_decoder import CONTEXT_TOKENS
from tui_entropy.engine.tokenization.tokenizer import DecodeStream, Tokenizer

MOST_BYTES = 4
"""Of a character in UTF-8: so many tokens may pass before it is there."""


def completes(tokenizer: Tokenizer, sequence: TokenSequence, newest: str, texts: tuple[str, ...]) -> bool:
    """Whether the newest token of a sequence completes one of the texts in what was written.

    newest: what that token completes.
    """
    if not newest:
        return False
    longest = max(map(len, texts))
    n = min(sequence.n_written, MOST_BYTES * longest + CONTEXT_TOKENS)
    ids = sequence.ids[max(sequence.n_tokens - n - CONTEXT_TOKENS, 0) : sequence.n_tokens].tolist()
    stream = DecodeStream(tokenizer, ids[:-n])
    end = "".join(map(stream.push, ids[-n:]))[-(longest - 1 + len(newest)) :]
    return any(text in end for text in texts)
