"""The way to the terminal: only cells that changed are sent, and no new data before the last has been shown.

A slow link hides behind buffers of a megabyte, so a program that sends as fast as it can shows what was true many
seconds ago. Behind each frame of data goes a question that every terminal answers, where the cursor is; the next data
waits for the answer. What a key changes is sent at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from textual import events, messages
from textual._ansi_sequences import SYNC_END, SYNC_START
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

from tui_entropy.ui.differ import Differ

QUESTION = "\x1b[6n"
PATIENCE = 0.25
"""Seconds after which an answer is not waited for any longer; four round trips where those are longer."""
DEAF = 3
"""Answers that fail to come in a row before this terminal is taken for one that gives none."""
RECENT = 5.0
"""Seconds that the rates are told over."""


class Pacer:
    """Whether the terminal has shown what it was sent. All times are seconds of one clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.round_trip: float | None = None
        """Smoothed; None before the first answer."""
        self._clock = clock
        self._asked: float | None = None
        self._unanswered = 0
        self._sent: deque[tuple[float, int, bool]] = deque()

    @property
    def patience(self) -> float:
        return max(PATIENCE, 4 * (self.round_trip or 0.0))

    @property
    def waits(self) -> float:
        """Seconds until more data may be sent, if no answer comes before; 0 for now."""
        if self._asked is None:
            return 0.0
        left = self._asked + self.patience - self._clock()
        if left > 0:
            return left
        self._asked = None
        self._unanswered += 1
        return 0.0

    def ask(self) -> bool:
        """Whether a question is to go behind what is sent now."""
        if self._asked is not None or self._unanswered >= DEAF:
            return False
        self._asked = self._clock()
        return True

    def answered(self) -> bool:
        """An answer came. False where nobody asked."""
        if self._asked is None:
            return False
        took = self._clock() - self._asked
        self.round_trip = took if self.round_trip is None else 0.8 * self.round_trip + 0.2 * took
        self._asked, self._unanswered = None, 0
        return True

    def sent(self, n_bytes: int, frame: bool) -> None:
        now = self._clock()
        self._sent.append((now, n_bytes, frame))
        while self._sent[0][0] < now - RECENT:
            self._sent.popleft()

    @property
    def rates(self) -> tuple[float, float]:
        """Frames and KiB per second, of the newest RECENT seconds."""
        recent = [(n, frame) for at, n, frame in self._sent if at >= self._clock() - RECENT]
        return sum(frame for _, frame in recent) / RECENT, sum(n for n, _ in recent) / 1024 / RECENT


class DiffingDriver(LinuxDriver):
    """Textual's own for Linux and macOS, with a Differ in front of the terminal.

    An app that paces itself sets `paced` before it changes something by data, asks `pacer.waits`, and has `on_answer`
    called once more may be sent.
    """

    diffs = True
    """Whether only what changed is sent."""

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
        self.paced = False
        """The next frame is one of data: a question goes behind it."""
        self.on_answer: Callable[[], None] = lambda: None
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
        if "\x1b[?1049" in data:
            self.forget()
        painted = "H" in data and "\x1b[" in data
        left = self._differ.frame(data) if self.diffs else data
        if not left:
            return
        if painted and self.paced and self.pacer.ask():
            left += QUESTION
            self.paced = False
        self._send((SYNC_START if self._opened else "") + left, painted)
        self._opened = False

    def _send(self, data: str, frame: bool = False) -> None:
        self.pacer.sent(len(data), frame)  # characters; those of more than one byte are few
        super().write(data)

    def send_message(self, message: messages.Message) -> None:
        """From the thread that reads the terminal."""
        if isinstance(message, events.CursorPosition):
            self._loop.call_soon_threadsafe(self._answered)
            return
        if isinstance(message, events.Resize | events.AppFocus):
            self._loop.call_soon_threadsafe(self.forget)
        super().send_message(message)

    def _answered(self) -> None:
        if self.pacer.answered():
            self.on_answer()
