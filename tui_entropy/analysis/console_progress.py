"""Progress on stderr for commands without a screen: one line that is rewritten, or plain lines without a terminal."""

from __future__ import annotations

import sys
import time

from tui_entropy.core import streams
from tui_entropy.core.escape import visible
from tui_entropy.records.events import Progress

WIDTH = 24


class Narrator:
    """Tells what is going on, at most ten times a second, on stderr."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._stage = ""
        self._shown_at = 0.0
        self._began = 0.0, 0.0
        """When the stage began, and how much of it was done then."""

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        finished = progress.total is not None and progress.done == progress.total
        if progress.stage == self._stage and not finished and now - self._shown_at < 0.1:
            return
        if progress.stage != self._stage:
            self._began = now, progress.done or 0.0
        if self._live:
            self._write(line(progress, self._seconds_left(progress, now)))
        elif progress.stage != self._stage:
            self._write(f"{visible(progress.stage, in_table=True)}\n")
        self._stage, self._shown_at = progress.stage, now

    def _seconds_left(self, progress: Progress, now: float) -> float | None:
        """At the pace of the stage so far; None while that says nothing."""
        began, was = self._began
        done, total = progress.done or 0.0, progress.total or 0.0
        if now - began < 2 or not was < done < total:
            return None
        return (now - began) * (total - done) / (done - was)

    def done(self, sentence: str) -> None:
        """Close the line that is being rewritten with a last word."""
        self._write(f"{visible(sentence, in_table=True)}\n")
        self._stage = ""

    def _write(self, text: str) -> None:
        if self._live:
            streams.control("\r\x1b[K")
        sys.stderr.write(text)
        sys.stderr.flush()


def line(progress: Progress, seconds_left: float | None = None) -> str:
    """'downloading SmolLM2 ████░░░░ 40 / 93 MB · 5 s left'."""
    stage = visible(progress.stage, in_table=True)
    if progress.done is None or not progress.total:
        return f"{stage} …"
    filled = round(WIDTH * min(progress.done / progress.total, 1.0))
    bar = "█" * filled + "░" * (WIDTH - filled)
    unit = f" {progress.unit}" if progress.unit else ""
    left = "" if seconds_left is None else f" · {_duration(seconds_left)} left"
    return f"{stage} {bar} {progress.done:.0f} / {progress.total:.0f}{unit}{left}"


def _duration(seconds: float) -> str:
    """'50 s', '12 min', '3 h 20 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
