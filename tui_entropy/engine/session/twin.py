"""A twin: a second run, written beside the first with the same noise."""

from __future__ import annotations

from dataclasses import replace

from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.batching import can_batch, join_batch, leave_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.session.run_writer import RunWriter
from tui_entropy.engine.session.state import SessionState
from tui_entropy.engine.steering.plan import Offsets, same_offsets
from tui_entropy.engine.tokenization.tokenizer import prompt_tokens
from tui_entropy.records.events import KnobsChanged, Started, VectorsChanged
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane, Vector
from tui_entropy.records.step import Step


class TwinRun:
    """A second run, written beside the first of a session: a token after each of its tokens, with the same noise."""

    def __init__(self, state: SessionState, lane: Lane, prompt: list[int]) -> None:
        """Beside the present run, from its newest token on. prompt: ids."""
        first = state.run
        assert first is not None
        self._state, self._lane, self._first = state, lane, first.sequence
        number = state.new_number()
        self.sequence = beside(state, first.sequence, prompt)
        self._applied = self._wanted()
        controls = self._controls()
        knobs, vectors = self._applied
        started = Started(
            run=number,
            prompt=first.started.prompt if lane.prompt is None else lane.prompt,
            system=first.started.system if lane.prompt is None else lane.system,
            chat=first.started.chat,
            prompt_tokens=prompt_tokens(state.loaded.tokenizer, prompt),
            knobs=knobs,
            vectors=vectors,
            max_tokens=first.started.max_tokens,
            parent=first.number,
            shared=first.sequence.n_written,
            how="read again",
            twin_of=first.number,
        )
        state.emit(started)
        self._run = Run(started, self.sequence, controls, vectors, lane.prompt is not None)
        state.runs[number] = self._run
        self._writer = RunWriter(state.loaded, state.instruments, state.emit, self._run, self.apply, self._written)

    def apply(self) -> None:
        """Apply what is wanted for its next step, and tell of it."""
        if (wanted := self._wanted()) == self._applied:
            if not same_offsets(self._run.controls.offsets, offsets := self._offsets()):
                self.sequence.own_offsets = offsets
                self._run.controls = replace(self._run.controls, offsets=offsets)
            return
        (knobs, vectors), self._applied = self._applied, wanted
        number, at = self._run.number, self.sequence.n_written
        if wanted[0] != knobs:
            self._state.emit(KnobsChanged(number, at, wanted[0]))
        if wanted[1] != vectors:
            self._state.emit(VectorsChanged(number, at, wanted[1]))
        self._run.controls, self._run.vectors = self._controls(), wanted[1]

    def look_ahead(self) -> Step | None:
        """Hold its next step up. None at its end."""
        if self._writer.proposed is None and self._propose():
            self._writer.show()
        return self._writer.proposed

    def write(self) -> Step | None:
        """One more token. None at its end."""
        if self._writer.proposed is None and not self._propose():
            return None
        step = self._writer.commit()
        first, own = self._first, self.sequence
        if len(first.batch) == 1 and self._state.writer is not None and can_batch(first, own):
            join_batch(first, own)
        return step

    def resample(self) -> None:
        """Choose what is held up once more, as things are set now."""
        self._writer.resample()

    def end(self, reason: str) -> None:
        self._writer.end(reason)

    def _propose(self) -> Step | None:
        """Its next step, which is not told. None at its end."""
        if self._state.writer is None:
            leave_batch(self.sequence)
        while (event := self._writer.next()) is not None and not isinstance(event, Step):
            pass
        return event

    def _wanted(self) -> tuple[Knobs, tuple[Vector, ...]]:
        lane, state = self._lane, self._state
        return lane.knobs or state.knobs, state.vectors if lane.vectors is None else lane.vectors

    def _written(self, step: Step) -> None:
        self._state.judge(self.sequence, self._run.vectors, step)

    def _offsets(self) -> Offsets:
        return self._state.offsets_of(self._applied[1], self.sequence)

    def _controls(self) -> Controls:
        self.sequence.own_offsets = own = self._offsets()
        return self._state.controls_with(own, self._applied[0])


def beside(state: SessionState, first: TokenSequence, prompt: list[int]) -> TokenSequence:
    """A sequence that has written what another one has, or nothing after its own prompt; none of it is read yet."""
    if prompt != first.prompt.tolist():
        own = TokenSequence(state.loaded, prompt, first.n_remaining)
        own.position_offset = own.n_prompt - first.n_prompt
        return own
    own = first.branch(first.n_written, first.n_remaining)
    own.offsets, own.prefix_ids, own.n_scored = [], [], 0
    return own
