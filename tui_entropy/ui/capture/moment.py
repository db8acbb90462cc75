"""Moment: a screen of a film and its time. What films are made of, and what of a recording they show."""

from __future__ import annotations

from dataclasses import dataclass

from textual.strip import Strip

IDLE = 1.0
"""Seconds for which nothing changes, at most, unless it is told otherwise."""


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Moment:
    """A screen of a film."""

    at: float
    """Seconds since the film began."""
    rows: list[Strip]
    markers: tuple[str, ...] = ()
    """The tokens that are new in it."""


@dataclass(frozen=True)
class Cut:
    """What of a recording is filmed."""

    last: int | None = None
    """The token that it ends with, counted from 1; None for the end of the recording."""
    idle: float = IDLE
    """Seconds that a wait lasts at most."""


WHOLE = Cut()
