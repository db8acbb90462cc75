"""Windows of texts that are too long to be read at once, and texts and tokens as results show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tui_entropy.engine.scoring.passage import Passage, left_to_right, windows
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.corpus.results import TextResult
from tui_entropy.records.probes.panels import Tokens

WINDOW = 512
"""Tokens that are read together; the next ones begin behind them, with half of them once more before them."""
BEFORE = 8
"""Tokens before one, by which it is told from others."""


class TextWindow(NamedTuple):
    text: int
    """Which of the texts."""
    begin: int
    """Position in the text of its first token."""
    ids: Sequence[int]
    first: int
    """Index in `ids` of the first token that is scored."""

    @property
    def passage(self) -> Passage:
        return self.behind(())

    def behind(self, prefix: Sequence[int]) -> Passage:
        """The same behind tokens that are read and not scored."""
        return left_to_right([*prefix, *self.ids], len(prefix) + self.first)

    @property
    def n_scored(self) -> int:
        return len(self.ids) - self.first

    def before(self, position: int) -> tuple[int, ...]:
        """Those by which the token at a position of the window is told from others."""
        return tuple(self.ids[max(position - BEFORE, 0) : position])


def text_windows(texts: Sequence[Sequence[int]], width: int, max_tokens: int | None) -> Iterator[TextWindow]:
    """Every token of the texts but their first ones is scored in one of them. max_tokens: of all texts together, from
    their beginnings."""
    left = max_tokens
    for at, ids in enumerate(texts):
        ids = ids if left is None else ids[:left]
        if left is not None:
            left -= len(ids)
        if len(ids) >= 2:
            for begin, first, end in windows(len(ids), width, max(width // 2, 1)):
                yield TextWindow(at, begin, ids[begin:end], first - begin)


def spelled(ids: Sequence[int], tokenizer: Tokenizer) -> Tokens:
    return Tokens(tuple(ids), b"".join(map(tokenizer.token_bytes, ids)))


def text_result(name: str, ids: Sequence[int], tokenizer: Tokenizer) -> TextResult:
    whole = spelled(ids, tokenizer)
    return TextResult(name, whole.ids, whole.token_bytes.decode("utf-8", "replace"))


def window_results(found: Sequence[TextWindow], names: Sequence[str], tokenizer: Tokenizer) -> tuple[TextResult, ...]:
    """names: of the texts."""
    return tuple(text_result(f"{names[one.text]} from token {one.begin + 1}", one.ids, tokenizer) for one in found)
