"""The chart on the whole screen, drawn by plotext. One picture costs some 20 ms, so it is drawn when something is
new, at most twice a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.console import Console
from rich.text import Text
from textual.strip import Strip

from tui_entropy.metrics.metric import Metric
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import View

Points = tuple[list[int], list[float]]


class BigChart(View):
    PACE: ClassVar[float] = 1 / 2
    TRUST: ClassVar[str] = "logits"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._key: object = None
        self._strips: list[Strip] = []
        self._points: dict[Metric, Points] = {}
        self._text: object = None
        """What those points are of; a cursor that moves needs no others."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        cursor = None if frame.following else frame.cursor
        key = (
            frame.log.run_number,
            len(frame.log.steps),
            cursor,
            frame.chart_series,
            frame.tint,
            frame.bits,
            frame.paint,
        )
        if (*key, width, height) != self._key:
            self._key = (*key, width, height)
            heading = self.heading(frame, "over time", [f"{len(frame.log.steps)} steps"], width)
            lines = picture(frame, self._curves(frame, width, height - 1), width, height - 1).split("\n")
            console = Console(width=width)
            self._strips = [heading, *(Strip(line.render(console, end="")).crop(0, width) for line in lines)]
        return self._strips[:height]

    def _curves(self, frame: Frame, width: int, height: int) -> dict[Metric, Points]:
        """The charted series and the tint, as many as there is room for."""
        text = id(frame.log.steps), len(frame.log.steps), width, frame.bits
        if text != self._text:
            self._text, self._points = text, {}
        shown = list(dict.fromkeys([*frame.chart_series, frame.tint]))[: max(height // 6, 1)]
        self._points |= {metric: points(frame, metric, 2 * width) for metric in shown if metric not in self._points}
        return {metric: self._points[metric] for metric in shown}


def picture(frame: Frame, curves: Mapping[Metric, Points], width: int, height: int) -> Text:
    """The curves over the steps of this run, one below the other."""
    import plotext

    paint, steps = frame.paint, frame.log.steps
    if not steps or width < 30 or height < 6:
        return Text("Needs a token that is written, and at least 30 cells by 8 rows.", paint.dim)
    plotext.main()  # the figure that holds all, and not the last one drawn on
    plotext.clear_figure()
    plotext.limitsize(False, False)
    plotext.plotsize(width, height)
    plotext.subplots(len(curves), 1)
    for row, (metric, (positions, values)) in enumerate(curves.items(), 1):
        plot = plotext.subplot(row, 1)
        plot.theme("clear")
        plot.title(paint.ours(f"{metric.name} {metric.unit(frame.bits)}".rstrip()))
        for mark in frame.log.marks:
            plot.vline(mark.index + 1, "orange")
        if frame.cursor is not None and not frame.following:
            plot.vline(frame.cursor + 1, "gray")
        plot.plot(positions, values, color=COLORS[row % len(COLORS)], marker="*" if paint.ascii else "braille")
        plot.ylim(min([0.0, *values]), max([*values, 1e-6]))
        plot.xticks(sorted({1 + round(part * (len(steps) - 1) / 8) for part in range(9)}))
    drawing = plotext.build()
    if paint.ascii:
        drawing = drawing.translate(PLAIN_FRAME)
    return Text.from_ansi(plotext.uncolorize(drawing) if paint.color == "mono" else drawing, style=paint.base)


COLORS = ("cyan+", "green+", "magenta+")
PLAIN_FRAME = str.maketrans("┌┐└┘─│┤├┬┴┼", "++++-|+++++")


def points(frame: Frame, metric: Metric, most: int) -> Points:
    """The numbers of the steps that have it, counted from 1, and its values in the unit shown. Of more than `most`
    steps the greatest of each of so many stretches, so that a peak shows however long the text is."""
    values = [(metric.shown(raw, frame.bits), n) for n, raw in enumerate(frame.log.steps.values(metric), 1)]
    known = [(value, index) for value, index in values if value is not None]
    stretch = -(-len(known) // most) or 1
    peaks = [max(known[first : first + stretch]) for first in range(0, len(known), stretch)]
    return [index for _, index in peaks], [value for value, _ in peaks]
