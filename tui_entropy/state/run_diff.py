"""Two runs token by token: where they part, what they still have in common, and which token stands beside which.

The shared beginning and end are found directly. Between them the greedy algorithm of Myers (An O(ND) difference
algorithm and its variations, 1986) goes at most REACH edits deep, keeps the furthest way that it found and begins
again from there: the time is then bounded by (n + m) * REACH instead of growing with the square of the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tui_entropy.core.sequences import n_common
from tui_entropy.state.run_view import RunView

REACH = 64
"""Edits looked ahead."""


class Span(NamedTuple):
    """Steps one_first ... one_last - 1 of the one run stand where the other has other_first ... other_last - 1."""

    same: bool
    """Whether they are the same token ids."""
    one_first: int
    one_last: int
    other_first: int
    other_last: int

    @property
    def kind(self) -> str:
        """'same', 'replaced', 'removed' (the one has it, the other has nothing) or 'added'."""
        if self.same:
            return "same"
        if self.one_first == self.one_last:
            return "added"
        return "removed" if self.other_first == self.other_last else "replaced"


@dataclass(frozen=True, slots=True)
class Comparison:
    parting: int
    """The first step that differs, or that only one of them has; the length of both where they are the same."""
    spans: tuple[Span, ...]
    """In order, none empty; together they are the whole of both runs, and no two neighbours are alike in `same`."""

    def rows(self) -> Iterator[tuple[int | None, int | None]]:
        """Steps that stand side by side; None where a side has none."""
        for _, one, one_last, other, other_last in self.spans:
            while one < one_last or other < other_last:
                yield one if one < one_last else None, other if other < other_last else None
                one, other = one + 1, other + 1


def compare(one: RunView, other: RunView) -> Comparison:
    """By token id: two tokens may have the same text and be different."""
    return compared(one.steps.ids, other.steps.ids)


def compared(one: Sequence[int], other: Sequence[int]) -> Comparison:
    """The same the other way round, to the span."""
    if (len(other), list(other)) < (len(one), list(one)):
        turned = compared(other, one)
        return Comparison(turned.parting, tuple(Span(same, c, d, a, b) for same, a, b, c, d in turned.spans))
    parting = n_common(one, other)
    end = n_common(one[parting:][::-1], other[parting:][::-1])
    middle, beside = one[parting : len(one) - end], other[parting : len(other) - end]
    matches = [(0, 0, parting)]
    matches += [(x + parting, y + parting, n) for x, y, n in _in_common(middle, beside)]
    matches += [(len(one) - end, len(other) - end, end)]
    return Comparison(parting, tuple(_spans(_worth_seeing(matches))))


def parting(one: RunView, other: RunView) -> int | None:
    """The first step at which their tokens differ; None while there is none, as far as both go."""
    at = n_common(one.steps.ids, other.steps.ids)
    return at if at < min(len(one.steps), len(other.steps)) else None


Match = tuple[int, int, int]
"""(first of the one, first of the other, how many) that are the same."""
Way = tuple["Way | None", Match]
"""A match, and those before it."""


def _in_common(one: Sequence[int], other: Sequence[int]) -> list[Match]:
    """In order; none goes on where the one before it ends."""
    matches: list[Match] = []
    x = y = 0
    while x < len(one) and y < len(other):
        x, y, way = _furthest(one, other, x, y)
        place = len(matches)
        while way is not None:
            way, match = way
            matches.insert(place, match)
    return matches


def _furthest(one: Sequence[int], other: Sequence[int], x0: int, y0: int) -> tuple[int, int, Way | None]:
    """The place that REACH edits lead to from (x0, y0), or fewer to the end of both, and the common way there."""
    n, m = len(one), len(other)
    best: tuple[int, int, Way | None] = (x0, y0, None)
    ways: dict[int, tuple[int, Way | None]] = {1: (x0, None)}  # diagonal -> how far along the one, and by which way
    for edits in range(REACH + 1):
        for k in range(-edits, edits + 1, 2):
            if k == -edits or (k != edits and ways[k - 1][0] < ways[k + 1][0]):
                x, way = ways[k + 1]
            else:
                x, way = ways[k - 1]
                x += 1
            start, y = x, x - x0 + y0 - k
            while x < n and y < m and one[x] == other[y]:
                x, y = x + 1, y + 1
            if x > start:
                way = way, (start, y - x + start, x - start)
            ways[k] = x, way
            if x <= n and y <= m and x + y > best[0] + best[1]:
                best = x, y, way
        if best[:2] == (n, m):
            break
    return best


def _worth_seeing(matches: list[Match]) -> list[Match]:
    """Without those that are shorter than the change before and the change behind: a comma that two different
    sentences have in common says nothing. The first and the last, which may be empty, stay."""
    kept = matches[:1]
    for match in matches[1:]:
        while len(kept) > 1 and kept[-1][2] < min(_change(kept[-2], kept[-1]), _change(kept[-1], match)):
            kept.pop()
        kept.append(match)
    return kept


def _change(before: Match, after: Match) -> int:
    """Tokens between two matches, on the side that has more."""
    return max(after[0] - before[0], after[1] - before[1]) - before[2]


def _spans(matches: list[Match]) -> Iterator[Span]:
    one = other = 0
    for x, y, n in matches:
        if x > one or y > other:
            yield Span(False, one, x, other, y)
        one, other = x + n, y + n
        if n:
            yield Span(True, x, one, y, other)
