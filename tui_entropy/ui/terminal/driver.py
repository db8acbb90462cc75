"""The way to the terminal: Textual's own driver for Linux and macOS, with a Differ in front of the terminal, and a
careful way out: whatever the terminal was asked or reports by itself is read before somebody else reads there."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import suppress

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._ansi_sequences import SYNC_END, SYNC_START
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message
from textual.messages import InBandWindowResize
from textual.strip import Strip

from tui_entropy.ui.terminal.cell_diff import HARMLESS, PLAIN, Differ, Inked, Pen, styled
from tui_entropy.ui.terminal.outlet import Outlet
from tui_entropy.ui.terminal.pacing import Pacer
from tui_entropy.ui.terminal.questions import ANSWERS, CURSOR, Questions

ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU")
)
"""Signals that would end the process on the spot, with the terminal as it is."""
LEAVE = (
    "\x1b[?2004l"  # bracketed paste
    "\x1b[?7h"  # lines wrap
    "\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l"  # mouse
    "\x1b[?1004l"  # focus reports
    "\x1b[<u"  # kitty's keyboard, which belongs to the alternate screen
    "\x1b[0m\x1b[?1049l\x1b[?25h"  # colours, alternate screen, cursor
)
RESIZE_REPORTS_OFF, PIXELS_OFF = "\x1b[?2048l", "\x1b[?1016l"
ESCAPE_POLL_S = 0.1
"""Seconds between two looks whether an escape was a key of its own."""


class DiffingDriver(LinuxDriver):
    """Sends only cells that changed, and asks behind a frame whether it has been shown where its pacer wants that.

    It holds the terminal from `start_application_mode` to `stop_application_mode`, and sends nothing outside of that.
    """

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
        for number in (signal.SIGTSTP, signal.SIGCONT):  # Textual heard them wherever they struck
            signal.signal(number, signal.SIG_DFL)
        out = sys.__stdout__
        assert out is not None
        self._file = Outlet(out.fileno(), out.encoding, self._terminal_gone)  # type: ignore[assignment]
        self.pacer = Pacer()
        self._differ = Differ()
        self._opened = False
        """A synchronised update was begun, and nothing of it is sent yet."""
        self._pens: dict[Style | None, Pen] = {}
        self._look: object = None
        """What the pens were made for."""
        self._questions = Questions()
        self._holds = False
        """The terminal is ours."""
        self._leaving = False
        """What it says is only listened to for answers."""
        self._stop_reading: tuple[int, int] = (-1, -1)
        """A pipe that ends the thread that reads."""

    # --- Taking the terminal, and giving it back -------------------------------------------------------------

    def start_application_mode(self) -> None:
        """Take the terminal. In the background the process is stopped here until it is brought to the front."""
        try:
            termios.tcsetattr(self.fileno, termios.TCSANOW, termios.tcgetattr(self.fileno))
        except termios.error:
            self._app.exit(return_code=1)
            return
        for number in ENDING:
            self._loop.add_signal_handler(number, self._end, number)
        self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._loop.add_signal_handler(signal.SIGCONT, self._continue)
        self.pacer.restart()
        self._questions, self._stop_reading = Questions(), os.pipe()
        self._holds, self._leaving, self._opened = True, False, False
        self.forget()
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def stop_application_mode(self) -> None:
        """Give the terminal back as it was. It stays raw until what it was asked is answered, or is unlikely to be
        any more; keys that are typed until then are for the program, and it drops them."""
        if not self._holds:
            return
        self._holds, self._leaving = False, True
        for number in (signal.SIGTSTP, signal.SIGCONT):
            self._loop.remove_signal_handler(number)
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        reports = RESIZE_REPORTS_OFF * self._in_band_window_resize + PIXELS_OFF * self._mouse_pixels
        self._send(reports + LEAVE)
        self.close()
        self._in_band_window_resize = self._mouse_pixels = False
        if self._key_thread is not None:
            self._questions.settle()
            os.close(self._stop_reading[1])
            self._key_thread.join()
            self._key_thread = None
        with suppress(termios.error):  # it may be gone
            termios.tcflush(self.fileno, termios.TCIFLUSH)
            if self.attrs_before is not None:
                termios.tcsetattr(self.fileno, termios.TCSANOW, self.attrs_before)

    def disable_input(self) -> None:
        """Textual calls it after `stop_application_mode`, or where it could not start."""
        self.stop_application_mode()

    def close(self) -> None:
        """End the thread that writes, once all is sent."""
        super().close()
        self._writer_thread = None

    def _end(self, number: int) -> None:
        self._app.exit(return_code=128 + number)

    def _terminal_gone(self) -> None:
        """From the threads that read and write."""
        with suppress(RuntimeError):  # the loop may be closed
            self._loop.call_soon_threadsafe(self._end, signal.SIGHUP)

    def _suspend(self) -> None:
        """Stop, with all that the shell started together with this; where no shell could continue it, do not stop."""
        self.stop_application_mode()
        os.kill(0, signal.SIGTSTP)
        self._must_signal_resume = True
        self.start_application_mode()
        self._app.refresh(layout=True)

    def _continue(self) -> None:
        """It was stopped without being asked, so others may have changed the terminal."""
        self.stop_application_mode()
        self.start_application_mode()
        self._app.refresh(layout=True)

    # --- Reading ---------------------------------------------------------------------------------------------

    def run_input_thread(self) -> None:
        """Pass on what the terminal says, until the pipe is closed or the terminal is gone."""
        parser, decode = XTermParser(self._debug), getincrementaldecoder("utf-8")("replace").decode
        end, wait = self._stop_reading[0], None
        try:
            while end not in (readable := select.select([self.fileno, end], [], [], wait)[0]):
                decoded: str | None = None
                if readable:
                    data = os.read(self.fileno, 4096)
                    if not data:
                        raise OSError("end of input")
                    decoded = decode(data)
                    self._questions.heard(decoded)
                if not self._leaving and decoded != "":
                    for message in parser.tick() if decoded is None else parser.feed(decoded):
                        if isinstance(message, InBandWindowResize):  # which has something sent
                            self._loop.call_soon_threadsafe(self.process_message, message)
                        else:
                            self.process_message(message)
                wait = None if parser._timeout_time is None else ESCAPE_POLL_S
        except OSError:
            self._terminal_gone()
        finally:
            os.close(end)

    def send_message(self, message: Message) -> None:
        """From the thread that reads the terminal."""
        if isinstance(message, events.CursorPosition):
            self._loop.call_soon_threadsafe(self.pacer.answered)
            return
        if isinstance(message, events.Resize | events.AppFocus):
            self._loop.call_soon_threadsafe(self.forget)
        super().send_message(message)

    # --- Writing ---------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Send every cell again that is painted from now on."""
        self._differ.forget()

    def write(self, data: str) -> None:
        if not self._holds:
            return
        if data in ANSWERS:  # Textual's own
            self._questions.asked(data)
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
        if not self._holds:
            return
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
        asks = is_frame and not self._app._exit and self.pacer.ask()
        if asks:
            self._questions.asked(CURSOR)
        self._send((SYNC_START if self._opened else "") + data + (CURSOR if asks else ""), is_frame)
        self._opened = False

    def _send(self, data: str, is_frame: bool = False) -> None:
        self.pacer.sent(len(data), is_frame)  # characters; those of more than one byte are few
        if self._writer_thread is not None:
            self._writer_thread.write(data)


class PlainDriver(DiffingDriver):
    """Sends everything that is painted."""

    diffs = False
