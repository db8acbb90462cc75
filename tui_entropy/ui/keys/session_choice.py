"""Which session is chosen on the page of sessions: a recording, or an engine that runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tui_entropy.ui.views.frame import Frame


class Session(NamedTuple):
    """A recording, an engine that runs, or an engine with what it records."""

    file: Path | None
    """Of the recording; None for an engine that keeps none."""
    socket: Path | None = None
    """Of the engine; None for a recording that nobody writes any more."""
    state: str = ""
    """Of the engine; 'busy' where it cannot say."""
    at: float = 0.0
    """When it was last written, seconds since 1970; 0 where that is not known."""
    model: str = ""
    n_runs: int | None = None
    n_tokens: int | None = None
    prompt: str = ""
    readable: bool = True
    reopens: bool = False
    """It is a recording that an engine goes on with, in its run `run`."""
    run: int | None = None
    command: str = ""
    """What shows it, without the name of the program."""

    @property
    def name(self) -> str:
        """By which the screen that shows it knows it: the id of its engine, else the path of its file."""
        return self.socket.stem if self.socket else str(self.file)


@dataclass(frozen=True)
class SessionsState:
    """The state that the page of sessions keeps."""

    sessions: tuple[Session, ...] | None = None
    """Engines first, then recordings, each newest first; None while they are looked for."""
    n_more: int = 0
    """Older recordings that are not listed."""
    here: str = ""
    """The name of the one that this screen shows."""


def chosen_session(frame: Frame) -> Session | None:
    """The one that keys act on; None where there is none."""
    sessions = frame.of(SessionsState).sessions
    return sessions[min(frame.row, len(sessions) - 1)] if sessions else None
