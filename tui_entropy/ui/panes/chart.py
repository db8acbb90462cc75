"""The series that are charted and the tint over time, one column per token."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.strip import Strip

from tui_entropy.metrics.metric import Metric
from tui_entropy.ui.drawing.bands import Band, bands, forks
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import reading

LABEL, VALUE = 14, 14


class Chart(View, can_focus=True):
    """A click asks for the cursor."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"
    OF_STEP: ClassVar[bool] = True

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint = frame.paint
        columns = max(width - LABEL - VALUE, 1)
        first = _first(frame.last + 1, columns, frame.cursor)
        on = [band for band in bands(frame.log.run) if _visible(band, first, columns)]
        names = list(dict.fromkeys(band.name for band in on))[: max(height - 5, 0)]
        height -= len(names)
        shown = _shown(frame, height)
        rows = []
        if height > len(shown) + 1:
            rows.append(self.heading(frame, "over time", _title(frame, first, columns), width))
        if frame.last < 0:
            hint = "One column for each token that is written; changes of knobs and vectors are marked below."
            return [*rows, *paint.hint(hint, width)][:height]
        room = height - len(rows) - 1
        for n, metric in enumerate(shown):
            high = min((room * (n + 1)) // len(shown) - (room * n) // len(shown), 4)
            rows += self._spark(frame, metric, first, columns, max(high, 1))
        rows.append(self._marks(frame, first, columns, [] if names else on))
        rows += [_band(frame, [band for band in on if band.name == name], first, columns) for name in names]
        return [row.crop(0, width) for row in rows[: height + len(names)]]

    def on_click(self, event: events.Click) -> None:
        if self.frame is None:
            return
        columns = max(self.size.width - LABEL - VALUE, 1)
        index = _first(self.frame.last + 1, columns, self.frame.cursor) + event.x - LABEL
        if LABEL <= event.x < LABEL + columns and 0 <= index <= self.frame.last:
            self.post_message(self.CursorAsked(index))

    def _spark(self, frame: Frame, metric: Metric, first: int, columns: int, high: int) -> list[Strip]:
        paint = frame.paint
        steps = frame.log.steps
        levels = [metric.level(raw) for raw in steps.values(metric, first, first + columns)]
        bounds = steps.bounds(metric, first, first + columns)
        at = -1 if frame.cursor is None else frame.cursor - first
        if frame.held_up and frame.step:
            levels.append(metric.level(metric.read(frame.step)))
            if held := metric.bounds(frame.step):
                bounds[first + len(levels) - 1] = held
        between = {index - first: metric.levels(*pair) for index, pair in bounds.items()}
        unit = paint.ours(metric.unit(frame.bits))
        strips = []
        for row in reversed(range(high)):
            glyphs = [paint.spark(level, row, high) for level in levels]
            for column, (least, most) in between.items():
                glyphs[column] = paint.band(least, most, row, high)
            line = "".join(glyphs).ljust(columns)
            label: Part = (" " * LABEL, paint.base)
            right: Part = ("", paint.dim)
            if row == high - 1:
                label = (fitted(metric.name, LABEL - 1, paint.ascii) + " ", paint.title)
                right = (f" {reading(frame, metric, VALUE - 6)} {unit}", paint.number)
            elif row == 0 and high > 1:
                right = (f" full {metric.top(frame.bits):.3g} {unit}", paint.dim)
            if 0 <= at < columns:
                parts = [
                    label,
                    (line[:at], paint.model),
                    (line[at], paint.column),
                    (line[at + 1 :], paint.model),
                    right,
                ]
            else:
                parts = [label, (line, paint.model), right]
            strips.append(paint.row(parts, LABEL + columns + VALUE))
        return strips

    def _marks(self, frame: Frame, first: int, columns: int, on: list[Band]) -> Strip:
        """Pins under the tokens where something was changed, each with its label to the left where there is room;
        behind them a line under those that a vector acted on, where it has no row of its own."""
        paint = frame.paint
        by_index: dict[int, list[str]] = {}
        for mark in [*frame.log.marks, *forks(frame.log)]:
            if first <= mark.index < first + columns:
                by_index.setdefault(mark.index - first, []).append(visible(mark.label, paint.ascii, True))
        row = [*" " * LABEL, *(_glyph(frame, on, index) for index in range(first, first + columns))]
        if len({band.name for band in on}) == 1 and on[0].first < first:
            row[:LABEL] = fitted(
                f"{visible(on[-1].name, paint.ascii, True)} {on[-1].strength:+g}", LABEL, paint.ascii
            )
        pins = sorted(by_index)
        free = 0
        for n, at in enumerate(pins):
            label = paint.ours(", ".join(by_index[at]))
            pin, beyond = LABEL + at, LABEL + pins[n + 1] if n + 1 < len(pins) else len(row)
            begin = pin - len(label) - 1
            if begin < free and pin + len(label) + 2 < beyond:
                begin = pin + 2
            if begin >= free:
                row[begin : begin + len(label)] = label
                row[begin - 1 : begin] = row[begin + len(label) : begin + len(label) + 1] = " "
            row[pin] = paint.pin
            free = max(pin, begin + len(label)) + 2
        return paint.row([("".join(row), paint.mark)], LABEL + columns)


def _visible(band: Band, first: int, columns: int) -> bool:
    return band.first < first + columns and (band.last is None or band.last > first)


def _glyph(frame: Frame, on: list[Band], index: int) -> str:
    """A double line where the text before was read again under a vector, a single one where it was not."""
    paint = frame.paint
    policies = {band.rebuilt for band in on if index <= frame.last and band.covers(index)}
    return (paint.double if True in policies else paint.line) if policies else " "


def _band(frame: Frame, on: list[Band], first: int, columns: int) -> Strip:
    """One vector: where it was on, how strong, and what it did with the text before."""
    paint, at = frame.paint, frame.cursor
    row = [_glyph(frame, on, index) for index in range(first, first + columns)]
    for band in on:
        begin = max(band.first - first, 0)
        label = f"{band.strength:+g} {band.policy} "
        room = min(len(row), (frame.last + 1 if band.last is None else band.last) - first) - begin
        if room > len(label):
            row[begin + 1 : begin + 1 + len(label)] = f" {label}"[: len(label)]
    here = next((band for band in on if at is not None and band.covers(at)), None)
    right: Part = (f" {here.policy}" if here else "", paint.dim)
    name = fitted(visible(on[0].name, paint.ascii, True), LABEL - 1, paint.ascii)
    return paint.row([(f"{name} ", paint.title), ("".join(row), paint.mark), right], LABEL + columns + VALUE)


def _title(frame: Frame, first: int, columns: int) -> list[str | list[Part]]:
    if frame.cursor is None:
        return []
    last = min(first + columns, len(frame.log.steps))
    return [*frame.where, f"one column per token, {first + 1} to {last} shown"]


def _shown(frame: Frame, height: int) -> list[Metric]:
    """The metrics that a person chose, and the tint where it is another, as far as there are rows for them."""
    return list(dict.fromkeys([*frame.chart_series, frame.tint]))[: max(height - (2 if height > 3 else 1), 1)]


def _first(n_steps: int, columns: int, cursor: int | None) -> int:
    """First step of the window: it holds the newest one, or the cursor, and moves by a quarter of its width."""
    quarter = max(columns // 4, 1)
    first = max(-(-(n_steps - columns) // quarter) * quarter, 0)
    if cursor is not None and cursor < first:
        first = max(cursor // quarter - 1, 0) * quarter
    return first
