"""A twin: a second run, written beside the first with the same noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_entropy.engine.decoding.loop import COMMIT, RESAMPLE, decode
from tui_entropy.engine.measure.finite import NotFinite
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.batching import can_batch, join_batch, leave_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.steering import control_vector
from tui_entropy.engine.tokenization.tokenizer import pieces
from tui_entropy.records.events import Ended, KnobsChanged, Proposed, Started, VectorsChanged
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane, Vector
from tui_entropy.records.step import Step

if TYPE_CHECKING:
    from tui_entropy.engine.session.session import Session


class TwinRun:
    """A second run, written beside the first of a session: a token after each of its tokens, with the same noise."""

    def __init__(self, session: Session, lane: Lane, prompt: list[int]) -> None:
        first, watched = session.started, session.sequence
        assert watched is not None and first is not None
        self.session, self.lane, self.run = session, lane, session.new_number()
        self.watched = watched
        self.sequence = beside(session, watched, prompt)
        self.proposed: Step | None = None
        self.applied = self._wanted()
        self._controls = self._made()
        started = Started(
            run=self.run,
            prompt=first.prompt if lane.prompt is None else lane.prompt,
            system=first.system if lane.prompt is None else lane.system,
            chat=first.chat,
            pieces=pieces(session.loaded.codec, prompt),
            knobs=self.applied[0],
            vectors=self.applied[1],
            max_tokens=first.max_tokens,
            parent=session.run_number,
            shared=watched.n_written,
            how="read again",
            twin_of=session.run_number,
        )
        session.emit(started)
        self.entry = session.branches.runs[self.run] = Run(started, self.sequence, self._controls, self.applied[1])
        self._writing = decode(
            session.loaded, session.probes, self.sequence, self.settled, self.run, lane.prompt is not None
        )

    def settled(self) -> Controls:
        """What is wanted for its next step becomes what is applied."""
        knobs, setting = self.applied
        if self._wanted() != self.applied:
            self.applied = self._wanted()
            if self.applied[0] != knobs:
                self.session.emit(KnobsChanged(self.run, self.sequence.n_written, self.applied[0]))
            if self.applied[1] != setting:
                self.session.emit(VectorsChanged(self.run, self.sequence.n_written, self.applied[1]))
            self._controls = self.entry.controls = self._made()
            self.entry.vectors = self.applied[1]
        return self._controls

    def look_ahead(self) -> Step | None:
        """Hold its next step up. None at its end."""
        if self.proposed is None and (step := self._next()):
            self.proposed = step
            self.session.emit(Proposed(step))
        return self.proposed

    def write(self) -> Step | None:
        """One more token. None at its end."""
        step = self.proposed or self._next()
        if step is None:
            return None
        self._writing.send(COMMIT)
        self.proposed = None
        self.session.emit(step)
        if len(self.watched.batch) == 1 and self.session.first_writes and can_batch(self.watched, self.sequence):
            join_batch(self.watched, self.sequence)
        return step

    def propose_again(self) -> None:
        if self.proposed is not None:
            step = self._writing.send(RESAMPLE)
            assert isinstance(step, Step)
            self.proposed = step
            self.session.emit(Proposed(step))

    def end(self, reason: str, failed: bool = False) -> None:
        self._writing.close()
        self.entry.ended = reason
        self.session.emit(Ended(self.run, reason, failed))

    def _next(self) -> Step | None:
        if not self.session.first_writes:
            leave_batch(self.sequence)
        try:
            while not isinstance(event := next(self._writing), Step):
                self.session.emit(event)
        except StopIteration as end:
            self.end(end.value)
            return None
        except NotFinite as odd:
            self.end(str(odd), failed=True)
            return None
        return event

    def _wanted(self) -> tuple[Knobs, tuple[Vector, ...]]:
        lane, session = self.lane, self.session
        return lane.knobs or session.knobs, session.vectors if lane.vectors is None else lane.vectors

    def _made(self) -> Controls:
        knobs, setting = self.applied
        self.sequence.own_offsets = control_vector.offsets(setting, self.session.directions)
        return self.session.made(self.sequence.own_offsets, knobs)


def beside(session: Session, watched: TokenSequence, prompt: list[int]) -> TokenSequence:
    """A sequence that has written what another one has, or nothing after its own prompt; it is read by nobody yet."""
    if prompt != watched.prompt.tolist():
        own = TokenSequence(session.loaded, prompt, watched.n_remaining)
        own.position_offset = own.n_prompt - watched.n_prompt
        return own
    own = watched.branch(watched.n_written, watched.n_remaining)
    own.offsets, own.prefix_ids, own.n_scored = [], [], 0
    return own
