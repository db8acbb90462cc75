"""The series that are charted and the tint over time, one column per token."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.strip import Strip

from tui_entropy.metrics.metric import Metric
from tui_entropy.ui.charts.change_marks import change_rows, n_band_rows, visible_bands
from tui_entropy.ui.charts.curve import charted, curve, label_peak, peak_words
from tui_entropy.ui.charts.time_axis import TimeAxis
from tui_entropy.ui.drawing.glyphs import fitted
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.keys.pane_words import PANES
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import reading

LABEL, VALUE = 14, 14
MAX_HIGH = 4
"""Rows of a metric at most."""


class Chart(View, can_focus=True):
    """A click asks for the cursor."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"
    OF_STEP: ClassVar[bool] = True
    ABOUT: ClassVar[str] = PANES["chart"]

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint = frame.paint
        axis = _axis(frame, width, height)
        on = visible_bands(frame, axis)
        spare = height - (2 + 2 * len(charted(frame)) if _is_tall(frame, height) else 5)
        n_bands = n_band_rows(on, spare)
        height -= n_bands
        shown = _shown(frame, height)
        rows = []
        if height > len(shown) + 1:
            rows.append(self.heading(frame, "over time", _title(frame, axis, shown), width))
        if frame.last < 0:
            hint = "One column for each token that is written; changes of knobs and vectors are marked below."
            return [*rows, *paint.hint(hint, width)][:height]
        each, more = divmod(height - len(rows) - 1, len(shown))
        for n, metric in enumerate(shown):
            rows += self._spark(frame, metric, axis, min(max(each + (n < more), 1), MAX_HIGH), width)
        rows += change_rows(frame, axis, on, n_bands, LABEL, width)
        return rows[: height + n_bands]

    def on_click(self, event: events.Click) -> None:
        if self.frame is None:
            return
        axis = _axis(self.frame, *self.size)
        index = axis.step(event.x - LABEL)
        if LABEL <= event.x < LABEL + axis.columns and 0 <= index <= self.frame.last:
            self.post_message(self.CursorAsked(index))

    def _spark(self, frame: Frame, metric: Metric, axis: TimeAxis, high: int, width: int) -> list[Strip]:
        """Rows of one metric, from 0 to a round number over its largest value in this text; its name, value and ends
        stand to the left, or where it has one row the value to the right."""
        paint, shown = frame.paint, curve(frame, metric, axis.first, axis.last)
        at = -1 if frame.cursor is None else frame.cursor - axis.first
        styles = [
            paint.column if n == at else paint.hot if is_hot else paint.model for n, is_hot in enumerate(shown.hot)
        ]
        unit = paint.ours(metric.unit(frame.bits))
        ends = f"0 to {shown.top:g}"
        sides = _sides(frame, metric, f"{reading(frame, metric, VALUE - 6)} {unit}".rstrip(), ends, high)
        strips = []
        for row, (left, right) in zip(reversed(range(high)), sides, strict=True):
            marks = [paint.spark(level, row, high) for level in shown.levels]
            inks = list(styles)
            for step, (least, most) in shown.bounds.items():
                if high > 1:
                    marks[step - axis.first] = paint.band(least, most, row, high)
                else:  # no room for a shape with two ends: as high as it may be, and fainter
                    marks[step - axis.first] = paint.spark(most)
                    inks[step - axis.first] += paint.faint
            glyphs: list[Part] = list(zip(marks, inks, strict=True))
            glyphs += [(" ", paint.base)] * (axis.columns - len(glyphs))
            if high > 1:
                label_peak(shown, axis, row, high, paint, glyphs)
            strips.append(paint.row([left, *glyphs, right], width))
        return strips


def _axis(frame: Frame, width: int, height: int) -> TimeAxis:
    """One column for each step."""
    columns = max(width - LABEL - (0 if _is_tall(frame, height) else VALUE), 1)
    first = _first(frame.last + 1, columns, frame.cursor)
    return TimeAxis(first, first + columns, columns)


def _is_tall(frame: Frame, height: int) -> bool:
    """Whether every metric has a row for its value below its name."""
    return height >= 3 + 2 * len(charted(frame))


def _sides(frame: Frame, metric: Metric, value: str, ends: str, high: int) -> list[tuple[Part, Part]]:
    """What stands to the left and to the right of each row of a metric, from the top down."""
    paint = frame.paint
    name: Part = (fitted(metric.name, LABEL - 1, paint.ascii).ljust(LABEL), paint.title)
    if high == 1:
        return [(name, (f" {value}", paint.number))]
    lines = [name, (value.ljust(LABEL), paint.number), (ends.ljust(LABEL), paint.dim)][:high]
    lines += [(" " * LABEL, paint.base)] * (high - len(lines))
    return [(line, ("", paint.base)) for line in lines]


def _title(frame: Frame, axis: TimeAxis, shown: list[Metric]) -> list[str | list[Part]]:
    if frame.cursor is None:
        return []
    last, wanted = min(axis.last, len(frame.log.steps)), len(charted(frame))
    title: list[str | list[Part]] = [*frame.where]
    if len(shown) < wanted:
        title.append(f"{len(shown)} of {wanted} series")
    if peak := peak_words(frame, shown[0]):
        title.append(peak)
    return [*title, f"steps {axis.first + 1} to {last}, one column each"]


def _shown(frame: Frame, height: int) -> list[Metric]:
    """The charted metrics as far as there are rows for them."""
    return charted(frame)[: max(height - (2 if height > 3 else 1), 1)]


def _first(n_steps: int, columns: int, cursor: int | None) -> int:
    """First step of the window: it holds the newest one, or the cursor, and moves by a quarter of its width."""
    quarter = max(columns // 4, 1)
    first = max(-(-(n_steps - columns) // quarter) * quarter, 0)
    if cursor is not None and cursor < first:
        first = max(cursor // quarter - 1, 0) * quarter
    return first
