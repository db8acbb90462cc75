"""The chart on the whole screen: the text from end to end, the charted series one below the other on one axis."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import events
from textual.strip import Strip

from tui_entropy.metrics.metric import Metric
from tui_entropy.ui.charts.change_marks import change_rows, n_band_rows, pinned_columns, visible_bands
from tui_entropy.ui.charts.curve import Curve, charted, curve, label_peak, peak_words
from tui_entropy.ui.charts.lines import drawn_lines
from tui_entropy.ui.charts.time_axis import TimeAxis
from tui_entropy.ui.drawing.paint import Part, figure
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.tint_scale import HOT_SHARE, scale_of
from tui_entropy.ui.views.view import View
from tui_entropy.ui.views.wording import reading

LABEL = 8
"""Cells of the numbers to the left."""
LEAST = 4
"""Rows of a series, its title among them, with fewer of which it is left out."""
SMALLEST = (30, 8)


class BigChart(View, can_focus=True):
    """A click asks for the cursor. The lines are worked out when the text grows, at most twice a second; a cursor
    that moves only colours them."""

    PACE: ClassVar[float] = 1 / 2
    TRUST: ClassVar[str] = "logits"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: dict[Metric, tuple[object, list[str]]] = {}
        """Of each series what was drawn last, and its rows."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        if frame.last < 0 or width < SMALLEST[0] or height < SMALLEST[1]:
            needs = "Needs a token that is written, and at least {} cells by {} rows.".format(*SMALLEST)
            return [self.heading(frame, "over time", [], width), *frame.paint.hint(needs, width)][:height]
        axis = _axis(frame, width)
        series, on = charted(frame), visible_bands(frame, axis)
        room = height - 4  # the title, pins, the axis and its numbers
        n_bands = n_band_rows(on, room - LEAST * len(series))
        room -= n_bands
        shown = series[: max(room // LEAST, 1)]
        rows = [self.heading(frame, "over time", _title(frame, axis, len(shown), len(series)), width)]
        each, more = divmod(room, len(shown))
        for n, metric in enumerate(shown):
            rows += self._series(frame, metric, axis, each + (n < more), width)
        rows.append(_axis_row(frame, axis))
        rows.append(_numbers_row(frame, axis))
        rows += change_rows(frame, axis, on, n_bands, LABEL, width)
        return rows[:height]

    def on_click(self, event: events.Click) -> None:
        if self.frame is None or self.frame.last < 0:
            return
        axis = _axis(self.frame, self.size.width)
        if LABEL <= event.x < LABEL + axis.columns:
            self.post_message(self.CursorAsked(axis.step(event.x - LABEL)))

    def _series(self, frame: Frame, metric: Metric, axis: TimeAxis, rows: int, width: int) -> list[Strip]:
        """Its title with the value under the cursor, then the line on a scale from 0."""
        paint, high, shown = frame.paint, rows - 1, curve(frame, metric, axis.first, axis.last)
        lines = self._line_of(metric, shown, axis, high, paint.ascii)
        columns = range(axis.columns)
        hot = [any(map(shown.is_hot, axis.steps(column))) for column in columns]
        bounds = {axis.column(step): pair for step, pair in shown.bounds.items()}
        at = -1 if frame.cursor is None else axis.column(frame.cursor)
        pins = pinned_columns(frame, axis)
        strips = [_series_title(frame, metric, width)]
        for n, line in enumerate(lines):
            row = high - 1 - n
            cells: list[Part] = []
            for column, glyph in zip(columns, line, strict=True):
                style = paint.column if column == at else paint.hot if hot[column] else paint.model
                if glyph == " " and column in bounds:
                    glyph = paint.band(*bounds[column], row, high)
                if glyph == " " and column in pins:
                    glyph, style = paint.wall, paint.rule if column != at else style
                if glyph == " " and column == at and not paint.rich:
                    glyph = paint.wall
                cells.append((glyph, style if glyph != " " or column == at else paint.base))
            label_peak(shown, axis, row, high, paint, cells)
            strips.append(paint.row([(_scale_label(shown, row, high, paint.wall), paint.dim), *cells], width))
        return strips

    def _line_of(self, metric: Metric, *drawn: Any) -> list[str]:
        """The rows that `drawn_line` makes of what follows, made again only of something else."""
        if self._lines.get(metric, (None,))[0] != drawn:
            self._lines[metric] = drawn, drawn_line(*drawn)
        return self._lines[metric][1]


def drawn_line(shown: Curve, axis: TimeAxis, high: int, ascii_only: bool) -> list[str]:
    """The rows of a line through the levels, from the top down, each as wide as the axis. Of the steps that stand in
    one place the largest shows, so that a peak does however long the text is; what is unknown parts the line."""
    dots = 1 if ascii_only else 2
    edges = 0, dots * axis.columns - 1
    return drawn_lines(_stretches(shown, axis, dots), edges, (0, 1), axis.columns, high, ascii_only)


def _stretches(shown: Curve, axis: TimeAxis, dots: int) -> list[tuple[list[int], list[float]]]:
    """(places, levels) between what is unknown, the largest level of each place."""
    stretches: list[dict[int, float]] = [{}]
    for step, level in enumerate(shown.levels, shown.first):
        if level is None:
            stretches.append({})
            continue
        place = axis.dot(step) if dots == 2 else axis.column(step)
        stretches[-1][place] = max(level, stretches[-1].get(place, 0.0))
    return [(list(levels), list(levels.values())) for levels in stretches if levels]


def _axis(frame: Frame, width: int) -> TimeAxis:
    return TimeAxis.whole(frame.last + 1, width - LABEL)


def _title(frame: Frame, axis: TimeAxis, n_shown: int, n_charted: int) -> list[str | list[Part]]:
    title: list[str | list[Part]] = [*frame.where_of_all]
    if n_shown < n_charted:
        title.append(f"{n_shown} of {n_charted} series")
    if axis.per_column > 1:
        title.append(f"{axis.per_column:.3g} steps a column, the largest shows")
    return title


def _series_title(frame: Frame, metric: Metric, width: int) -> Strip:
    paint, unit = frame.paint, frame.paint.ours(metric.unit(frame.bits))
    name = f"{metric.name} ({metric.distribution})" if metric.distribution else metric.name
    first: list[Part] = [(name, paint.title), (f"  {reading(frame, metric, 12)} {unit}".rstrip(), paint.number)]
    groups: list[str | list[Part]] = []
    if peak := peak_words(frame, metric, unit=False):
        groups.append(peak)
    scale = scale_of(frame, metric)
    if scale.of_text:
        groups.append([(f"{HOT_SHARE} from {figure(metric.shown(scale.cuts[-1], frame.bits))}", paint.hot)])
    return paint.whole(first, groups, width)


def _scale_label(shown: Curve, row: int, high: int, wall: str) -> str:
    """The numbers of the scale at its ends and, where there is room, in its middle."""
    at = {high - 1: shown.top, 0: 0.0}
    if high >= 7 and high % 2:
        at[high // 2] = shown.top / 2
    number = f"{at[row]:g}" if row in at else ""
    return f"{number:>{LABEL - 2}} {wall}"


def _axis_row(frame: Frame, axis: TimeAxis) -> Strip:
    paint = frame.paint
    corner, line, tick = ("+", "-", "+") if paint.ascii else ("└", "─", "┬")
    ticks = {axis.column(step) for step in axis.ticks(8)}
    drawn = "".join(tick if column in ticks else line for column in range(axis.columns))
    return paint.row([(" " * (LABEL - 1) + corner + drawn, paint.dim)], LABEL + axis.columns)


def _numbers_row(frame: Frame, axis: TimeAxis) -> Strip:
    """The numbers of steps below their ticks, and that of the cursor, before which they give way."""
    paint, row = frame.paint, [" "] * (LABEL + axis.columns)

    def write(step: int) -> tuple[int, int]:
        number = str(step + 1)
        begin = min(max(LABEL + axis.column(step) - (len(number) - 1) // 2, LABEL), max(len(row) - len(number), 0))
        return begin, begin + len(number)

    at = None if frame.cursor is None else write(frame.cursor)
    for step in axis.ticks(8):
        begin, end = write(step)
        if at is None or end < at[0] or begin > at[1]:
            row[begin:end] = str(step + 1)
    before, here, after = "".join(row), "", ""
    if at is not None and frame.cursor is not None:
        before, here, after = before[: at[0]], str(frame.cursor + 1), before[at[1] :]
    return paint.row([(before, paint.dim), (here, paint.number), (after, paint.dim)], LABEL + axis.columns)
