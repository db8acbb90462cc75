"""The way to the terminal: Textual's own driver for Linux and macOS, with a Differ in front of the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._ansi_sequences import SYNC_END, SYNC_START
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message
from textual.strip import Strip

from tui_entropy.ui.differ import HARMLESS, PLAIN, Differ, Inked, Pen, styled
from tui_entropy.ui.pacing import Pacer

QUESTION = "\x1b[6n"


class DiffingDriver(LinuxDriver):
    """Sends only cells that changed, and asks behind a frame whether it has been shown where its pacer wants that."""

    diffs = True

    def __init__(
        self,
        app: App[object],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.pacer = Pacer()
        self._differ = Differ()
        self._opened = False
        """A synchronised update was begun, and nothing of it is sent yet."""
        self._pens: dict[Style | None, Pen] = {}
        self._look: object = None
        """What the pens were made for."""

    def forget(self) -> None:
        """Send every cell again that is painted from now on."""
        self._differ.forget()

    def write(self, data: str) -> None:
        if data == SYNC_START:
            self._opened = True
            return
        if data == SYNC_END:
            if not self._opened:
                self._send(SYNC_END)
            self._opened = False
            return
        left = self._differ.frame(data) if self.diffs else data
        if left:
            self._show(left, left is not data or not HARMLESS.fullmatch(data))

    def paint(self, rows: Iterator[tuple[int, int, Strip]]) -> None:
        """Show rows of cells, each given with its place (y, x), as they would be shown had Textual painted them.
        Takes as many as the link has room for."""
        app = self._app
        look = app.theme, tuple(app.get_line_filters())
        if look != self._look:
            self._look, self._pens = look, {}
        app._begin_update()
        lines = ((y, x, [self._inked(*part) for part in row]) for y, x, row in rows)
        if left := self._differ.lines(lines, self.pacer.room):
            self._show(left)
        app._end_update()

    def _inked(self, text: str, style: Style | None, control: object = None) -> Inked:
        known = self._pens.get(style)
        if known is None:
            segments = [Segment("x", style)]
            for filter in self._app.get_line_filters():
                segments = filter.apply(segments, self._app.screen.background_colors[1])
            whole = Strip(segments).render(self._app.console)
            known = self._pens[style] = styled(whole.partition("m")[0][2:]) if whole != "x" else PLAIN
        return text, known

    def _show(self, data: str, is_frame: bool = True) -> None:
        question = QUESTION if is_frame and self.pacer.ask() else ""
        self._send((SYNC_START if self._opened else "") + data + question, is_frame)
        self._opened = False

    def _send(self, data: str, is_frame: bool = False) -> None:
        self.pacer.sent(len(data), is_frame)  # characters; those of more than one byte are few
        super().write(data)

    def send_message(self, message: Message) -> None:
        """From the thread that reads the terminal."""
        if isinstance(message, events.CursorPosition):
            self._loop.call_soon_threadsafe(self.pacer.answered)
            return
        if isinstance(message, events.Resize | events.AppFocus):
            self._loop.call_soon_threadsafe(self.forget)
        super().send_message(message)


class PlainDriver(DiffingDriver):
    """Sends everything that is painted."""

    diffs = False
