"""Undo: the last change of a knob, a vector, a ban or a stop, taken back."""

from __future__ import annotations

from tui_entropy.records.commands import Command, Go, SetKnobs, SetVector
from tui_entropy.records.events import Event, Ready, Switched
from tui_entropy.ui.keys.needs import GONE
from tui_entropy.ui.protocol.actions import EngineActions
from tui_entropy.ui.protocol.changes import Changes, Reversal
from tui_entropy.ui.protocol.host import EngineHost


class UndoActions(EngineActions):
    """Tells the engine what reverses the newest change; what follows a way to another run when it is there."""

    def __init__(self, app: EngineHost, changes: Changes) -> None:
        super().__init__(app)
        self._changes = changes
        self._left: tuple[Reversal, ...] = ()
        """What is to be told in the run that was asked for."""

    def action_undo(self) -> None:
        change = None if self.app.frame.log.state in GONE else self._changes.take()
        if change is None:
            self.app.refuse("nothing was changed that could be undone: a knob, a vector, a ban, a stop")
            return
        self._tell(change.reversals)
        self.app.say(f"undone: {change.sentence}")

    def on_event(self, event: Event) -> None:
        """Hear what the engine tells."""
        if isinstance(event, Ready):
            self._changes.forget()
            self._left = ()
        elif isinstance(event, Switched) and self._left:
            left, self._left = self._left, ()
            self._tell(left)

    def _tell(self, reversals: tuple[Reversal, ...]) -> None:
        for n, reversal in enumerate(reversals, 1):
            for command in reversal(self.app.frame):
                self.app.tell(command)
                self._show(command)
                if isinstance(command, Go):
                    self._left = reversals[n:]
                    return

    def _show(self, command: Command) -> None:
        """What is set, as it is asked for."""
        frame = self.app.frame
        if isinstance(command, SetKnobs):
            self.app.show(knobs=command.knobs, typed="")
        elif isinstance(command, SetVector):
            vector = command.vector
            self.app.show(vectors=tuple(vector if one.name == vector.name else one for one in frame.vectors))
