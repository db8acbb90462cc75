"""The views of results: title, curves, table, and what can be pressed."""

from __future__ import annotations

from typing import Any

from textual.strip import Strip

from tui_entropy.records.corpus.results import Listing
from tui_entropy.records.probes.panels import Table
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.results.curves import chart_rows
from tui_entropy.ui.results.state import ResultsState
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.list_view import ABOVE, ListView
from tui_entropy.ui.views.panels import Canvas, Row, drawn
from tui_entropy.ui.views.view import View, around
from tui_entropy.ui.views.wording import wrap

MARK = 2
"""Cells before a row, for the mark of the chosen one."""


def canvas_of(frame: Frame, width: int) -> Canvas:
    return Canvas(frame.paint, width, frame.bits)


class ResultsTitle(View):
    """What the results are of, and the way to the table that is shown."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, state, canvas = frame.paint, frame.of(ResultsState), canvas_of(frame, width)
        row: list[Part] = [(canvas.text(state.results.title), paint.title)]
        for opened in state.path:
            name = next((cell for cell in opened.cells if isinstance(cell, str)), "")
            row += [(f" {paint.arrow} ", paint.dim), (canvas.text(name), paint.base)]
        return [paint.row(row, width)]


class ResultsChart(View):
    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        chart = frame.of(ResultsState).shown_chart
        rows = chart_rows(chart, canvas_of(frame, width), height) if chart is not None else []
        if not rows:
            return frame.paint.hint("There is no room for curves here." if chart else "There are no curves.", width)
        return [frame.paint.row(row, width) for row in rows][:height]


class ResultsTable(ListView, can_focus=True):
    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._laid: tuple[Listing | None, int, bool, list[Row]] = (None, 0, True, [])
        """The table that was laid out last, how wide and in which unit, and its rows."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, state = frame.paint, frame.of(ResultsState)
        listing = state.listing
        title, head, *rows = self._lines_of(frame, listing, width)
        shown = [paint.row(title, width), paint.row([(" " * MARK, paint.base), *head], width)]
        for at in self.window(frame, height):
            chosen = at == state.row
            opens = rows[at] if not chosen else [(text, paint.selected) for text, _ in rows[at]]
            shown.append(
                paint.row([(paint.drawn if chosen else " ", paint.accent), (" ", paint.base), *opens], width)
            )
        if not listing.rows:
            shown += paint.hint("It is empty.", width)
        notes = self._notes(frame, width)
        blank = max(height - len(shown) - len(notes), 0)
        return [*shown, *[Strip.blank(width, paint.base)] * blank, *(paint.row(row, width) for row in notes)][:height]

    def _notes(self, frame: Frame, width: int) -> list[Row]:
        """What is to be known of the table, under it."""
        note = frame.of(ResultsState).listing.note
        return list(wrap([(canvas_of(frame, width).text(note), frame.paint.dim)], width)) if note else []

    def _lines_of(self, frame: Frame, listing: Listing, width: int) -> list[Row]:
        if self._laid[:3] != (listing, width, frame.bits):
            table = Table(listing.title, listing.columns, tuple(row.cells for row in listing.rows))
            rows = list(drawn([table], canvas_of(frame, max(width - MARK, 1))))
            self._laid = listing, width, frame.bits, rows
        return self._laid[3]

    def last(self, frame: Frame) -> int:
        return len(frame.of(ResultsState).listing.rows) - 1

    def window(self, frame: Frame, height: int) -> range:
        state = frame.of(ResultsState)
        n = len(state.listing.rows)
        room = height - ABOVE - len(self._notes(frame, max(self.size.width, 1)))
        return range(n)[around(state.row, n, max(room, 1))]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        return {}


class ResultsHints(View):
    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, state = frame.paint, frame.of(ResultsState)
        if state.message:
            return [paint.row([(state.message, paint.warning)], width)]
        keys: list[tuple[str, str]] = []
        row = state.chosen
        if row is not None and row.inside is not None:
            keys.append(("enter", "open"))
        elif row is not None and row.opens:
            keys.append(("enter", "in the inspector"))
            if len(row.opens) > 1:
                keys.append(("2", "by the second model"))
        if state.opened:
            keys.append(("esc", "back"))
        if len(state.results.charts) > 1:
            keys.append(("c", "next curves"))
        keys += [("up/down" if paint.ascii else "↑↓", "choose"), ("u", "bits/nats"), ("q", "quit")]
        groups = [[(key, paint.accent), (f" {what}", paint.dim)] for key, what in keys]
        return [paint.row(line, width) for line in paint.lines(groups, width)]
