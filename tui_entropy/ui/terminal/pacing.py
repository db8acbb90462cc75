"""Data goes to the terminal no faster than it is shown there.

A slow link hides behind buffers of a megabyte, so a program that sends as fast as it can shows what was true many
seconds ago. Behind each frame of data goes a question that every terminal answers, where the cursor is; the next data
waits for the answer, and not for ever. What a key changes is sent at once.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from tui_entropy.ui.terminal.questions import ANSWER_TIMEOUT_S

PROBE_DELAY_S = 0.25
"""Seconds that data waits for an answer; four round trips where those are longer."""
MAX_UNANSWERED = 3
"""Answers that fail to come in a row before this terminal is taken for one that gives none."""
SLOW_ROUND_TRIP_S = 0.04
"""Seconds of a round trip from which a link is slow."""
SLOW_CHUNK_BYTES = 1200
RATE_WINDOW_S = 5.0
"""Seconds that the rates are told over."""


class Pacer:
    """The pace of frames: whether the terminal has shown what it was sent. All times are seconds of one clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.round_trip: float | None = None
        """Smoothed; None before the first answer."""
        self.wanted = False
        """What is painted next is data: a question is to go behind it."""
        self.on_answer: Callable[[], object] = lambda: None
        """Called when more may be sent sooner than `wait` said."""
        self._clock = clock
        self._asked: float | None = None
        """When the one open question was asked: a second one would make it unclear what an answer is to."""
        self._held_until = -math.inf
        self._unanswered = 0
        self._sent: deque[tuple[float, int, bool]] = deque()
        self._text, self._text_at = "", -math.inf

    @property
    def patience(self) -> float:
        return max(PROBE_DELAY_S, 4 * (self.round_trip or 0.0))

    @property
    def room(self) -> float:
        """Characters that the next frame may have. Over a slow link a large frame of data would be in the way of what
        a key changes, so it goes in parts."""
        return SLOW_CHUNK_BYTES if self.wanted and (self.round_trip or 0.0) > SLOW_ROUND_TRIP_S else math.inf

    def wait(self) -> float:
        """Seconds until more data may be sent, if no answer comes before; 0 for now."""
        return max(self._held_until - self._clock(), 0.0)

    def ask(self) -> bool:
        """Whether a question is to go behind what is sent now. Data that follows waits in any case, as long as the
        terminal may be one that answers."""
        if not self.wanted or self.wait():
            return False
        now = self._clock()
        lost = self._asked is not None and now - self._asked >= max(ANSWER_TIMEOUT_S, self.patience)
        if lost:
            self._asked = None
            self._unanswered += 1
        if self._asked is None and self._unanswered >= MAX_UNANSWERED:
            return False
        self._held_until, self.wanted = now + self.patience, False
        if self._asked is not None:
            return False
        self._asked = now
        return True

    def answered(self) -> None:
        """An answer came: that of the open question, or one that was given up."""
        self._unanswered = 0
        if self._asked is None:
            return
        took = self._clock() - self._asked
        self.round_trip = took if self.round_trip is None else 0.8 * self.round_trip + 0.2 * took
        self._asked, self._held_until = None, -math.inf
        self.on_answer()

    def restart(self) -> None:
        """Nothing is under way: whoever had the terminal meanwhile has read what was."""
        self._asked, self._held_until = None, -math.inf

    def sent(self, n_bytes: int, frame: bool) -> None:
        now = self._clock()
        self._sent.append((now, n_bytes, frame))
        while self._sent[0][0] < now - RATE_WINDOW_S:
            self._sent.popleft()

    def gauge(self) -> str:
        """The state of the link, for a person; made anew once a second."""
        now = self._clock()
        if now - self._text_at >= 1.0 and self.round_trip is not None:
            frames, kib = self.rates
            self._text_at = now
            self._text = f"link {1000 * self.round_trip:.0f} ms {frames:.0f} frames/s {kib:.1f} KiB/s"
        return self._text

    @property
    def rates(self) -> tuple[float, float]:
        """Frames and KiB per second, of the newest RATE_WINDOW_S seconds."""
        recent = [(n, frame) for at, n, frame in self._sent if at >= self._clock() - RATE_WINDOW_S]
        return sum(frame for _, frame in recent) / RATE_WINDOW_S, sum(n for n, _ in recent) / 1024 / RATE_WINDOW_S
