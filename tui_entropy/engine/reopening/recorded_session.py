"""RecordedSession: a recording that a session goes on with, once that is agreed."""

from __future__ import annotations

from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.engine.reopening import agreement, differences
from tui_entropy.engine.reopening.restoring import Restoration
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Reopen
from tui_entropy.records.events import STOPPED, Refused, SettingsPending
from tui_entropy.state.agreement import phrase
from tui_entropy.state.run_view import RunView
from tui_entropy.state.unopened import MORE_TOKENS
from tui_entropy.trace.reader import Trace


class RecordedSession:
    """The runs of a recording, known to a session that has just begun. None of them is read or gone on with yet."""

    def __init__(self, session: Session, path: Path) -> None:
        """Raises UserError for what is no recording, is too damaged to be gone on with, or was made with a model of
        another shape."""
        self.path, self._session = path, session
        self._trace = trace = Trace.open(path)
        if not trace.runs:
            raise UserError(f"{path} holds no run: there is nothing to go on with")
        now = session.state.loaded.card
        if trace.card is not None:
            differences.check_shape(trace.card, now)
        self._restoration = Restoration(session, trace)
        self._restoration.carry_out()
        model = (
            differences.of_model(trace.card, now) if trace.card is not None else ["nobody said which model it was"]
        )
        self.differences = (*model, *self._restoration.lost)
        """Half a sentence for each way in which something is not what it was."""
        self.n_read = 0
        """Tokens that are read again, once it is entered."""

    def enter(self, ask: Reopen) -> None:
        """Its run is the present one of the session, which reads what it lacks when it is asked to advance. Raises
        UserError for a run that is not there."""
        state, view = self._session.state, self._restoration.log
        number = self._trace.checked(view.run_number if ask.run is None else ask.run)
        run = state.run_of(number)
        self._reopen(run, ask.max_tokens)
        self._session.come_to(run)
        self.n_read = run.sequence.n_pending
        if run.sequence.n_written:
            state.breakpoints.recall_newest(self._trace.step(number, -1))
        if pending := view.runs[number].pending:
            self._set(pending)
        self._stand_beside(run, view.twin)

    def _reopen(self, run: Run, max_tokens: int | None) -> None:
        """What ended since a person left it has not ended, and what came to its limit may be given more."""
        sequence = run.sequence
        if run.ended is not None and run.ended.startswith(STOPPED):
            run.ended = None
        if max_tokens is None and not sequence.n_remaining:
            max_tokens = MORE_TOKENS
        if max_tokens is not None:
            run.make_room(max_tokens)

    def _set(self, pending: SettingsPending) -> None:
        """What was set and had not acted yet."""
        state = self._session.state
        then = {vector.name: vector for vector in self._restoration.vectors.present(state, pending.vectors)}
        state.knobs = pending.knobs
        state.vectors = tuple(then.get(vector.name, vector) for vector in state.vectors)
        state.emit(SettingsPending(pending.run, state.knobs, state.vectors))

    def _stand_beside(self, run: Run, twin: RunView | None) -> None:
        """The shadow is on again. A twin is a run like any other, which is told."""
        if self._restoration.shadow is not None:
            self._session.comparisons.set_shadow(self._restoration.shadow)
        if twin is not None and twin.ended is None and twin.started.twin_of == run.number:
            self._session.state.emit(
                Refused(
                    f"run {twin.started.run} was written beside run {run.number}: it is a run of its own now, to be "
                    "gone to and written on by itself",
                    notice=True,
                )
            )

    def how_read(self) -> str:
        """How the text agrees with what was recorded, in a phrase; once all but its newest token is read."""
        state = self._session.state
        assert state.run is not None
        sequence, nats = state.run.sequence, None
        if sequence.n_written:
            nats = agreement.difference(sequence, self._trace.step(state.run_number, -1))
        return phrase(nats, agreement.rounding(state.loaded.card.dtype), "read again")
