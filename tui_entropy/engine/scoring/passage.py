"""Passage: tokens that are read together, and the places at which the model is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    """Tokens, positions of them where the model says what it believes, and the tokens that this is held against."""

    ids: Sequence[int]
    positions: Sequence[int]
    targets: Sequence[int]
    """As many as positions."""
    end: int | None = None
    """The position whose belief is told as what would come next, or stand there; None for none."""

    def __len__(self) -> int:
        return len(self.ids)


def left_to_right(ids: Sequence[int], first: int = 1) -> Passage:
    """A text whose tokens from index `first` on are scored, each by the position before it."""
    return Passage(ids, range(first - 1, len(ids) - 1), ids[first:], len(ids) - 1)


def windows(n: int, width: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """A text of n tokens in windows of so many at most, `stride` apart: (begin, first, end), where the tokens from
    `first` to before `end` are scored and those before them in the window are read only. Each token but the very
    first is scored once, behind width - stride tokens at least or all that there are."""
    begin, end = 0, min(width, n)
    yield begin, 1, end
    while end < n:
        begin, first = begin + stride, end
        end = min(begin + width, n)
        yield begin, first, end
