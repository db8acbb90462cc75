"""Where a person is in results: the rows that were opened, and the one that is chosen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from tui_entropy.records.corpus.results import CurveChart, Listing, Results, Row

EMPTY = Results("", (), (), (), Listing("", (), ()))


@dataclass(frozen=True)
class ResultsState:
    results: Results = EMPTY
    opened: tuple[int, ...] = ()
    """The row of each table that was opened, from the outermost."""
    row: int = 0
    """The chosen one of the table that is shown."""
    chart: int | None = None
    """Which a person chose; None for that of the rows."""
    message: str = field(default="", compare=False)
    """What a key could not do."""

    @property
    def path(self) -> tuple[Row, ...]:
        """The rows that were opened."""
        found: list[Row] = []
        listing = self.results.listing
        for at in self.opened:
            found.append(listing.rows[at])
            listing = found[-1].inside or listing
        return tuple(found)

    @property
    def listing(self) -> Listing:
        """The table that is shown."""
        inside = self.path[-1].inside if self.opened else None
        return inside or self.results.listing

    @property
    def chosen(self) -> Row | None:
        rows = self.listing.rows
        return rows[min(self.row, len(rows) - 1)] if rows else None

    @property
    def shown_chart(self) -> CurveChart | None:
        """That of the chosen row, of the row it lies in, or the first."""
        charts = self.results.charts
        if self.chart is not None:
            return charts[self.chart]
        rows = [*self.path, *([self.chosen] if self.chosen else [])]
        at = next((row.chart for row in reversed(rows) if row.chart is not None), 0)
        return charts[at] if charts else None

    def to(self, row: int) -> Self:
        """With another row chosen, as near as there is one."""
        return replace(self, row=min(max(row, 0), max(len(self.listing.rows) - 1, 0)), message="")

    def inside(self) -> Self:
        """In the table that the chosen row opens into; as it is where it opens into none."""
        if self.chosen is None or self.chosen.inside is None:
            return self
        return replace(self, opened=(*self.opened, self.row), row=0, message="")

    def outside(self) -> Self:
        """Back in the table that this one was opened from."""
        if not self.opened:
            return self
        return replace(self, opened=self.opened[:-1], row=self.opened[-1], message="")

    def next_chart(self, by: int) -> Self:
        n = len(self.results.charts)
        if n < 2:
            return self
        shown = self.shown_chart
        at = next(at for at, chart in enumerate(self.results.charts) if chart is shown)
        return replace(self, chart=(at + by) % n, message="")
