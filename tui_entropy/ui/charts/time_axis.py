"""TimeAxis: which column of a chart a step stands in, and where the axis says its number."""

from __future__ import annotations

from typing import NamedTuple

WIDEST = 8
"""Cells of one step at most, where a text has few."""


class TimeAxis(NamedTuple):
    """The steps first ... last - 1 over so many columns; where there are more columns than steps, a step stands in
    the middle of those that are its own.

    TimeAxis(0, 4, 2): steps 0 and 1 stand in column 0. TimeAxis(0, 2, 6): step 0 in column 1, step 1 in column 4.
    """

    first: int
    last: int
    """The step after the last one."""
    columns: int

    @classmethod
    def whole(cls, n_steps: int, room: int) -> TimeAxis:
        """A text from end to end: every step as wide as the next while they fit, else several to a column."""
        n, room = max(n_steps, 1), max(room, 1)
        return cls(0, n, n * min(room // n, WIDEST) if n <= room else room)

    @property
    def n_steps(self) -> int:
        return self.last - self.first

    @property
    def per_column(self) -> float:
        """Steps of one column."""
        return self.n_steps / self.columns

    def column(self, step: int) -> int:
        """The column of a step; below 0 or from `columns` on for one that is not shown."""
        return (2 * (step - self.first) + 1) * self.columns // (2 * self.n_steps)

    def dot(self, step: int) -> int:
        """The same for a picture of two dots a column."""
        return (2 * (step - self.first) + 1) * self.columns // self.n_steps

    def step(self, column: int) -> int:
        """The step that a column is of, the first where it has several."""
        return self.first + column * self.n_steps // self.columns

    def steps(self, column: int) -> range:
        """Those that stand in a column: none beside the middle of a wide one."""
        n, wide = self.n_steps, self.columns
        begin, end = (-(-(2 * at * n - wide) // (2 * wide)) for at in (column, column + 1))
        return range(self.first + begin, self.first + end)

    def ticks(self, apart: int) -> list[int]:
        """Steps whose numbers, counted from 1, are round, at least so many columns apart; the first is always one."""
        distance, n = 1, max(apart * self.per_column, 1)
        while distance < n:
            distance = _rounder(distance)
        numbers = range(distance, self.last + 1, distance)
        ticks = [number - 1 for number in numbers if number > self.first]
        if not ticks or self.column(ticks[0]) - self.column(self.first) >= apart:
            ticks.insert(0, self.first)
        return ticks


def _rounder(number: int) -> int:
    """1, 2, 5, 10, 20, 50, ..."""
    return number * 5 // 2 if str(number)[0] == "2" else number * 2
