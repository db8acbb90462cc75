"""Items laid into rows whole: what has no room is left out, never cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Placed(NamedTuple):
    """An item in its row."""

    item: int
    form: int
    """Which of its forms stands there, 0 the longest."""


def place(sizes: Sequence[Sequence[int]], width: int, gap: int, rows: int = 1) -> list[list[Placed]]:
    """Which items stand in each of at most so many rows, and in which form.

    sizes: the cells of each form of each item, longest form first, most wanted item first. gap: cells between two.
    Of several rows an item begins another one where its longest form has room there and not behind the others. For
    what stands behind others, or where there is one row alone, the shortest form will do; an item without room for
    that is left out. Room that is left in a row goes to longer forms, the most wanted first.
    """
    laid: list[list[Placed]] = [[]]
    free = [width]
    for item, forms in enumerate(sizes):
        least = forms[-1]
        longest = next((size for size in forms if size <= width), 0)
        if laid[-1] and longest + gap > free[-1] and len(laid) < rows:
            laid.append([])
            free.append(width)
        size = least if laid[-1] or rows == 1 else longest
        taken = size + (gap if laid[-1] else 0)
        if size and taken <= free[-1]:
            laid[-1].append(Placed(item, forms.index(size)))
            free[-1] -= taken
    return [_lengthened(row, sizes, left) for row, left in zip(laid, free, strict=True) if row]


def _lengthened(row: list[Placed], sizes: Sequence[Sequence[int]], free: int) -> list[Placed]:
    """The same items in the longest forms that there is room for."""
    longer = []
    for item, form in row:
        room = sizes[item][form] + free
        best = next(n for n, size in enumerate(sizes[item]) if size <= room)
        free -= sizes[item][best] - sizes[item][form]
        longer.append(Placed(item, best))
    return longer
