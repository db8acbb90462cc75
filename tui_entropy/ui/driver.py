"""The way to the terminal: Textual's own driver for Linux and macOS, with a Differ in front of the terminal."""

from __future__ import annotations

from textual import events
from textual._ansi_sequences import SYNC_END, SYNC_START
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from tui_entropy.ui.differ import HARMLESS, Differ
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
        if not left:
            return
        is_frame = left is not data or not HARMLESS.fullmatch(data)
        question = QUESTION if is_frame and self.pacer.ask() else ""
        self._send((SYNC_START if self._opened else "") + left + question, is_frame)
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
