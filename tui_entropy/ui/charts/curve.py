"""Curve: the sizes of one metric over a stretch of a text, and the round number that a chart of it goes up to."""

from __future__ import annotations

import math
from typing import NamedTuple

from tui_entropy.metrics.metric import Metric
from tui_entropy.ui.charts.time_axis import TimeAxis
from tui_entropy.ui.drawing.paint import Paint, Part, figure
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.tint_scale import peak_of, round_up, scale_of


class Curve(NamedTuple):
    first: int
    """The step of the first value."""
    levels: tuple[float | None, ...]
    """Of each step its share of `top`; None where it is unknown."""
    hot: tuple[bool, ...]
    """Whether each is of the few that are to be looked at first."""
    bounds: dict[int, tuple[float, float]]
    """Step -> the least and the largest share that it can have, where only so much is known."""
    peak: int | None
    """The step of the largest value of the text, here or elsewhere in it."""
    top: float
    """The size at level 1, in the unit that is shown."""

    @property
    def peak_level(self) -> float | None:
        """None where it is not in this stretch."""
        at = -1 if self.peak is None else self.peak - self.first
        return self.levels[at] if 0 <= at < len(self.levels) else None

    def is_hot(self, step: int) -> bool:
        return 0 <= step - self.first < len(self.hot) and self.hot[step - self.first]


def charted(frame: Frame) -> list[Metric]:
    """The metrics that a person chose, and the tint where it is another."""
    return list(dict.fromkeys([*frame.chart_series, frame.tint]))


def curve(frame: Frame, metric: Metric, first: int, last: int) -> Curve:
    """The steps first ... last - 1, with the one that is held up, on a scale that the whole text fits on."""
    steps, scale, peak = frame.log.steps, scale_of(frame, metric), peak_of(frame, metric)
    values = list(steps.values(metric, first, last))
    between = steps.bounds(metric, first, last)
    if frame.held_up and frame.step and len(values) < last - first:
        values.append(metric.read(frame.step))
        if held := metric.bounds(frame.step):
            between[first + len(values) - 1] = held
    sizes = [None if value is None else abs(value) for value in values]
    ranges = {step: metric.sizes(*pair) for step, pair in between.items()}
    known = [size for size in sizes if size is not None] + [most for _, most in ranges.values()]
    one = metric.in_unit(1.0, frame.bits)
    top = round_up(max([peak[1] if peak else 0.0, *known]) * one)
    return Curve(
        first,
        tuple(None if size is None or not math.isfinite(size * one / top) else size * one / top for size in sizes),
        tuple(scale.is_hot(value) for value in values),
        {step: (least * one / top, most * one / top) for step, (least, most) in ranges.items()},
        peak[0] if peak else None,
        top,
    )


def label_peak(shown: Curve, axis: TimeAxis, row: int, rows: int, paint: Paint, cells: list[Part]) -> None:
    """Write the value of the peak beside it into the cells, one a column, of row `row` (0 the lowest), if that is
    where it ends and they are blank."""
    level, at = shown.peak_level, 0 if shown.peak is None else axis.column(shown.peak)
    if level is None or row != min(int(level * rows), rows - 1):
        return
    label = figure(level * shown.top)
    for begin in (at + 1, at - len(label)):
        room = range(max(begin - 1, 0), min(begin + len(label) + 1, len(cells)))
        blank = all(cells[column][0] == " " for column in room if column != at)
        if blank and begin >= 0 and begin + len(label) <= len(cells):
            cells[begin : begin + len(label)] = [(digit, paint.hot) for digit in label]
            return


def peak_words(frame: Frame, metric: Metric, unit: bool = True) -> str:
    """The largest value of the text and where it is; empty where there is none."""
    peak = peak_of(frame, metric)
    if peak is None:
        return ""
    name = f" {frame.paint.ours(metric.unit(frame.bits))}".rstrip() if unit else ""
    return f"peak {figure(metric.shown(peak[1], frame.bits))}{name} at step {peak[0] + 1}"
