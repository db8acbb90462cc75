"""The questions that the terminal has not answered yet, so that no answer is left to whoever reads it next."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from threading import Condition

CURSOR = "\x1b[6n"
"""Where the cursor is: a question that every terminal answers."""
ANSWERS = {
    CURSOR: r"\x1b\[\d+;\d+R",
    "\x1b[?2026$p": r"\x1b\[\?2026;\d+\$y",
    "\x1b[?2048$p": r"\x1b\[\?2048;\d+\$y",
    "\x1b[?2048h": r"\x1b\[48;[\d:;]+t",  # a switch, answered by a first report
}
"""Everything that is sent and makes the terminal send something by itself -> a pattern of what that is."""
ANSWER = re.compile("|".join(f"({pattern})" for pattern in ANSWERS.values()))
UNFINISHED = re.compile(r"\x1b(?:\[[?\d:;]{0,40}\$?)?$")

MIN_ANSWER_WAIT_S, MAX_ANSWER_WAIT_S = 0.1, 1.0
"""Seconds that the last answers are waited for: twice the known round trip, within these."""
ANSWER_TIMEOUT_S = 2.0
"""Seconds after which an answer is taken for lost."""
N_ROUND_TRIPS = 8
"""Answers that the round trip is told from."""


class Questions:
    """Questions without an answer, and how long answers take. One thread asks and waits, another one hears."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, deque[float]] = {question: deque() for question in ANSWERS}
        """When each was asked, the oldest first."""
        self._took: deque[float] = deque(maxlen=N_ROUND_TRIPS)
        self._unfinished = ""
        self._answered = Condition()

    @property
    def round_trip(self) -> float | None:
        """Seconds of the slowest of the newest answers; None before the first."""
        return max(self._took, default=None)

    def asked(self, question: str) -> None:
        """One of ANSWERS is sent."""
        with self._answered:
            self._open[question].append(self._clock())

    def heard(self, text: str) -> None:
        """Text that came from the terminal, keys and answers, cut anywhere."""
        text = self._unfinished + text
        cut = UNFINISHED.search(text)
        self._unfinished = cut[0] if cut else ""
        for answer in ANSWER.finditer(text):
            with self._answered:
                asked = self._open[list(ANSWERS)[(answer.lastindex or 1) - 1]]
                if asked:
                    self._took.append(self._clock() - asked.popleft())
                    self._answered.notify_all()

    def patience(self, since: float) -> float:
        """Seconds that an answer may still be under way, or a report of keys or mouse that was sent before the last
        that was written, at `since`, reached the terminal."""
        now, known = self._clock(), self.round_trip
        waited_for = [now - at for asked in self._open.values() for at in asked if now - at < ANSWER_TIMEOUT_S]
        if waited_for:
            slow = MAX_ANSWER_WAIT_S if known is None else 2 * max(known, *waited_for)
            return since + min(max(slow, MIN_ANSWER_WAIT_S), MAX_ANSWER_WAIT_S) - now
        return since + (MIN_ANSWER_WAIT_S if known is None else min(known, MAX_ANSWER_WAIT_S)) - now

    def settle(self) -> None:
        """Wait until nothing that the terminal says by itself is under way any more, as far as can be known."""
        since = self._clock()
        with self._answered:
            while (left := self.patience(since)) > 0:
                self._answered.wait(left)
