"""The chart on the whole screen, drawn by plotext. One frame costs some 20 ms, so it is drawn when something is new,
at most twice a second."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_entropy.series import BY_NAME, Series
from tui_entropy.ui.view import Frame

SECONDS = 0.5


class ChartScreen(ModalScreen[None]):
    """The app hands it frames with `show`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,C", "dismiss", "close", show=False)]

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame
        self._drawn: object = None
        self._waiting = False

    def compose(self) -> ComposeResult:
        yield Static(id="plot")

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def show(self, frame: Frame) -> None:
        self.frame = frame
        if not self._waiting and self._wanted() != self._drawn:
            self._waiting = True
            self.set_timer(SECONDS, self._draw)

    def _wanted(self) -> object:
        """All that the picture depends on."""
        frame = self.frame
        return frame.log.run, len(frame.log.steps), frame.cursor, frame.tint.name, frame.bits, self.app.size

    def _draw(self) -> None:
        self._waiting, self._drawn = False, self._wanted()
        self.query_one("#plot", Static).update(picture(self.frame, *self.app.size))


def picture(frame: Frame, width: int, height: int) -> Text:
    """Entropy and varentropy, and the tint series where it is another, over the steps of this run."""
    import plotext

    paint, steps = frame.paint, frame.log.steps
    shown = list(dict.fromkeys([BY_NAME["entropy"], BY_NAME["varentropy"], frame.tint]))
    title = Text(f"over time{paint.between}{len(steps)} steps", paint.title)
    title.append("   esc closes\n", paint.dim)
    if not steps or width < 30 or height < 6 * len(shown):
        return title.append(
            f"Needs a token that is written, and at least 30 cells by {6 * len(shown)} rows.", paint.dim
        )
    plotext.main()  # the figure that holds all, and not the last one drawn on
    plotext.clear_figure()
    plotext.limitsize(False, False)
    plotext.plotsize(width, height - 2)
    plotext.subplots(len(shown), 1)
    for row, series in enumerate(shown, 1):
        plot = plotext.subplot(row, 1)
        plot.theme("clear")
        plot.title(" ".join(filter(None, (series.name, series.unit(frame.bits)))))
        for mark in frame.log.marks:
            plot.vline(mark.index + 1, "orange")
        if frame.cursor is not None and not frame.following:
            plot.vline(frame.cursor + 1, "gray")
        positions, values = points(frame, series)
        plot.plot(positions, values, color=COLORS[row - 1], marker="*" if paint.ascii else "braille")
        plot.ylim(0, max([*values, 1e-6]))
        plot.xticks(sorted({1 + round(part * (len(steps) - 1) / 8) for part in range(9)}))
    drawing = plotext.build()
    if paint.ascii:
        drawing = drawing.translate(PLAIN_FRAME)
    return title.append_text(Text.from_ansi(plotext.uncolorize(drawing) if paint.color == "mono" else drawing))


COLORS = ("cyan+", "green+", "magenta+")
PLAIN_FRAME = str.maketrans("┌┐└┘─│┤├┬┴┼", "++++-|+++++")


def points(frame: Frame, series: Series) -> tuple[list[int], list[float]]:
    """The numbers of the steps that have it, counted from 1, and its values in the unit shown."""
    values = [(n, series.shown(raw, frame.bits)) for n, raw in enumerate(frame.log.steps.values(series), 1)]
    known = [(index, value) for index, value in values if value is not None]
    return [index for index, _ in known], [value for _, value in known]
