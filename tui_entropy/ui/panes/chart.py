"""The series that are charted and the tint over time, one column per token."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.strip import Strip

from tui_entropy.metrics.metric import Metric
from tui_entropy.ui.drawing.bands import Band, bands, forks
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.paint import Part, figure
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.tint_scale import peak_of, round_up, scale_of
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

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint = frame.paint
        first, columns = _window(frame, width, height)
        on = [band for band in bands(frame.log.run) if _visible(band, first, columns)]
        spare = height - (2 + 2 * len(_charted(frame)) if _is_tall(frame, height) else 5)
        names = list(dict.fromkeys(band.name for band in on))[: max(spare, 0)]
        height -= len(names)
        shown = _shown(frame, height)
        rows = []
        if height > len(shown) + 1:
            rows.append(self.heading(frame, "over time", _title(frame, first, columns, shown), width))
        if frame.last < 0:
            hint = "One column for each token that is written; changes of knobs and vectors are marked below."
            return [*rows, *paint.hint(hint, width)][:height]
        each, more = divmod(height - len(rows) - 1, len(shown))
        for n, metric in enumerate(shown):
            rows += self._spark(frame, metric, first, columns, min(max(each + (n < more), 1), MAX_HIGH))
        rows.append(self._marks(frame, first, columns, [] if names else on))
        rows += [_band(frame, [band for band in on if band.name == name], first, columns) for name in names]
        return [row.crop(0, width) for row in rows[: height + len(names)]]

    def on_click(self, event: events.Click) -> None:
        if self.frame is None:
            return
        first, columns = _window(self.frame, *self.size)
        index = first + event.x - LABEL
        if LABEL <= event.x < LABEL + columns and 0 <= index <= self.frame.last:
            self.post_message(self.CursorAsked(index))

    def _spark(self, frame: Frame, metric: Metric, first: int, columns: int, high: int) -> list[Strip]:
        """Rows of one metric, from 0 to a round number over its largest value in this text; its name, value and ends
        stand to the left, or where it has one row the value to the right."""
        paint, scale, peak = frame.paint, scale_of(frame, metric), peak_of(frame, metric)
        values = list(frame.log.steps.values(metric, first, first + columns))
        bounds = frame.log.steps.bounds(metric, first, first + columns)
        if frame.held_up and frame.step and len(values) < columns:
            values.append(metric.read(frame.step))
            if held := metric.bounds(frame.step):
                bounds[first + len(values) - 1] = held
        sizes = [None if value is None else abs(value) for value in values]
        known = [size for size in sizes if size is not None] + [metric.sizes(*pair)[1] for pair in bounds.values()]
        one = metric.in_unit(1.0, frame.bits)
        top = round_up(max([peak[1] if peak else 0.0, *known]) * one)
        full = top / one
        between = {index - first: metric.sizes(*pair) for index, pair in bounds.items()}
        levels = [None if size is None else size / full for size in sizes]
        at = -1 if frame.cursor is None else frame.cursor - first
        styles = [
            paint.column if n == at else paint.hot if scale.is_hot(value) else paint.model
            for n, value in enumerate(values)
        ]
        unit = paint.ours(metric.unit(frame.bits))
        sides = _sides(frame, metric, f"{reading(frame, metric, VALUE - 6)} {unit}".rstrip(), f"0 to {top:g}", high)
        strips = []
        for row, (left, right) in zip(reversed(range(high)), sides, strict=True):
            marks = [paint.spark(level, row, high) for level in levels]
            for column, (least, most) in between.items():
                marks[column] = paint.band(least / full, most / full, row, high)
            glyphs = list(zip(marks, styles, strict=True))
            space = " " * (columns - len(glyphs))
            strips.append(paint.row([left, *glyphs, (space, paint.base), right], LABEL + columns + VALUE))
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


def _window(frame: Frame, width: int, height: int) -> tuple[int, int]:
    """(the first step that is shown, how many columns there are)."""
    columns = max(width - LABEL - (0 if _is_tall(frame, height) else VALUE), 1)
    return _first(frame.last + 1, columns, frame.cursor), columns


def _is_tall(frame: Frame, height: int) -> bool:
    """Whether every metric has a row for its value below its name."""
    return height >= 3 + 2 * len(_charted(frame))


def _charted(frame: Frame) -> list[Metric]:
    """The metrics that a person chose, and the tint where it is another."""
    return list(dict.fromkeys([*frame.chart_series, frame.tint]))


def _sides(frame: Frame, metric: Metric, value: str, ends: str, high: int) -> list[tuple[Part, Part]]:
    """What stands to the left and to the right of each row of a metric, from the top down."""
    paint = frame.paint
    name: Part = (fitted(metric.name, LABEL - 1, paint.ascii).ljust(LABEL), paint.title)
    if high == 1:
        return [(name, (f" {value}", paint.number))]
    lines = [name, (value.ljust(LABEL), paint.number), (ends.ljust(LABEL), paint.dim)][:high]
    lines += [(" " * LABEL, paint.base)] * (high - len(lines))
    return [(line, ("", paint.base)) for line in lines]


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


def _title(frame: Frame, first: int, columns: int, shown: list[Metric]) -> list[str | list[Part]]:
    if frame.cursor is None:
        return []
    last, wanted = min(first + columns, len(frame.log.steps)), len(_charted(frame))
    title: list[str | list[Part]] = [*frame.where]
    if len(shown) < wanted:
        title.append(f"{len(shown)} of {wanted} series")
    if peak := peak_of(frame, shown[0]):
        unit = frame.paint.ours(shown[0].unit(frame.bits))
        title.append(
            f"peak {figure(shown[0].shown(peak[1], frame.bits))} {unit} at step {peak[0] + 1}".replace("  ", " ")
        )
    return [*title, f"steps {first + 1} to {last}, one column each"]


def _shown(frame: Frame, height: int) -> list[Metric]:
    """The charted metrics as far as there are rows for them."""
    return _charted(frame)[: max(height - (2 if height > 3 else 1), 1)]


def _first(n_steps: int, columns: int, cursor: int | None) -> int:
    """First step of the window: it holds the newest one, or the cursor, and moves by a quarter of its width."""
    quarter = max(columns // 4, 1)
    first = max(-(-(n_steps - columns) // quarter) * quarter, 0)
    if cursor is not None and cursor < first:
        first = max(cursor // quarter - 1, 0) * quarter
    return first
