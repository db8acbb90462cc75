"""A recording that an engine goes on with, on the screen of that engine: there at once, and asked about, once the
model is up, where something is not what it was."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from tui_entropy.records.commands import Reopen
from tui_entropy.records.events import Differences, Event, Started, Switched
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.keys.needs import GONE
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import EngineHost
from tui_entropy.ui.protocol.remark import Remark

if TYPE_CHECKING:
    from tui_entropy.state.session_view import SessionView

GOES_ON, NOT_YET = "y", "n"


class Reopening(Actions[EngineHost]):
    """What a person decides about it. Without a recording it only says that there is none."""

    def __init__(self, app: EngineHost, ask: Reopen | None) -> None:
        super().__init__(app)
        self.ask = ask
        self._differences: Differences | None = None
        """Those that nobody agreed to yet."""

    def recorded(self, ask: Reopen) -> SessionView:
        """What is there of it without a model. Raises UserError for what is no recording, or not of that run."""
        return Trace.open(Path(ask.path)).log(ask.run)

    def show_recorded(self) -> None:
        """All of it, while the model is loaded."""
        if self.ask is not None:
            log = self.recorded(self.ask)
            knobs, vectors = log.set_knobs, log.set_vectors
            layer = log.card.n_layers if log.card else 1
            self.app.frame = replace(self.app.frame, log=log, layer=layer, knobs=knobs, vectors=vectors)

    def on_event(self, event: Event) -> None:
        """Take in an event as one from an engine that was told to go on with a recording."""
        match event:
            case Differences():
                self._differences = event
                self._ask()
            case Started() | Switched():
                self._differences = None

    def _ask(self) -> None:
        assert self._differences is not None
        found = ", ".join(self._differences.found)
        self.app.ask(
            "go on? y, n",
            self._answer,
            check=lambda _: Remark(f"not as it was recorded: {found}"),
            choices=GOES_ON + NOT_YET,
        )

    def _answer(self, typed: str) -> None:
        if typed.strip().lower() in (GOES_ON, "yes") and self._differences is not None:
            self.app.tell(Reopen(self._differences.recording, *self._wanted, despite=True))

    @property
    def _wanted(self) -> tuple[int | None, int | None]:
        return (self.ask.run, self.ask.max_tokens) if self.ask else (None, None)

    def action_reopen(self) -> None:
        """Ask again; or, of an engine that is gone, go on with what it recorded."""
        log = self.app.frame.log
        if self._differences is not None:
            self._ask()
        elif log.state in GONE and log.trace and log.runs:
            self.app.requests.load = changed(self.app.requests.load, reopen=Reopen(log.trace))
            self.app.begin_engine()
            self.app.say("starting the engine again, which goes on with what was recorded")
        else:
            self.app.refuse("this is no recording: {pause} goes on with the text")


def is_recorded_now(path: Path) -> str:
    """The id of the engine that records in a file; empty where none does."""
    from tui_entropy.core.errors import UserError
    from tui_entropy.transport import discovery

    with suppress(UserError):
        for engine in discovery.running():
            if engine.standing is not None and engine.standing.trace == str(path):
                return engine.id
    return ""
