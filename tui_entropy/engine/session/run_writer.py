"""Writes one run: the loop over its sequence, a proposal at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator

from tui_entropy.breakpoints.controller import BreakpointController
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decoding.loop import COMMIT, RESAMPLE, decode
from tui_entropy.engine.decoding.read_text import read_stretch, reads_in_stretches
from tui_entropy.engine.measure.finite import NotFinite
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.run import Run
from tui_entropy.records.events import Ended, Event, Prefilled, PromptScores, Proposed
from tui_entropy.records.step import Step


class RunWriter:
    """Proposes the next step of a run, chooses it again, writes it, and ends the run. It alone writes the sequence.

    A step lives through this, and each arrow is a call:

        next() -> proposed -> show() -> resample(), as often as settings change -> commit() -> next() -> ...
    """

    def __init__(
        self,
        loaded: Loaded,
        instruments: Instruments,
        emit: Callable[[Event], None],
        run: Run,
        apply: Callable[[], None],
        on_commit: Callable[[Step], None] = lambda step: None,
        stops: BreakpointController | None = None,
        cut: Callable[[TokenSequence], object] = lambda sequence: None,
    ) -> None:
        """apply: called before each forward pass and each choice, to bring `run.controls` up to what is set.
        on_commit: called with a step that is written, before it is told. stops: what ends a stretch of a text that is
        there. cut: has a sequence in the cache as far as it goes, where more of it was read."""
        self.run = run
        self.proposed: Step | None = None
        """Chosen and not written yet."""
        self._emit = emit
        self._on_commit = on_commit
        self._loaded, self._instruments, self._apply = loaded, instruments, apply
        self._stops, self._cut = stops, cut
        self._alone = False
        """The next token of a text is read by itself, since something may stop before it."""
        self._loop = self._begun()

    def _begun(self) -> Generator[Prefilled | PromptScores | Step, str | None, str]:
        run = self.run
        return decode(
            self._loaded,
            self._instruments,
            run.sequence,
            lambda: run.controls,
            run.number,
            run.score_prompt,
            apply=self._apply,
            stop=run.started.stop,
        )

    def next(self) -> Prefilled | PromptScores | Step | None:
        """A stretch of the prompt, or of a text that is there, is read, which is told, or a step proposed, which is
        not. None at the end of the run, which is told."""
        try:
            event = self._read_stretch() if self._reads_in_stretches() else next(self._loop)
        except StopIteration as end:
            self._end(end.value)
            return None
        except NotFinite as odd:
            self._end(str(odd), failed=True)
            return None
        if isinstance(event, Step):
            self.proposed = event
        else:
            self._emit(event)
        return event

    def _reads_in_stretches(self) -> bool:
        """A vector that hangs on the step acts on each token otherwise, so that they are read one by one."""
        if self._alone or (self._stops is not None and self._stops.needs_single_passes):
            return False
        if not reads_in_stretches(self._loaded, self.run.sequence):
            return False
        self._apply()
        by_step = any(vector.on and (vector.schedule or vector.condition) for vector in self.run.vectors)
        return not by_step and reads_in_stretches(self._loaded, self.run.sequence)

    def _read_stretch(self) -> Prefilled:
        """A stretch of a text that is there: its steps are written at once."""
        sequence, number = self.run.sequence, self.run.number
        ends = (lambda step: False) if self._stops is None else self._stops.wants_single_pass
        for step in read_stretch(self._loaded, self._instruments, sequence, self.run.controls, number, ends):
            self._on_commit(step)
            self._emit(step)
        if sequence.n_read >= sequence.n_tokens:  # it ended early
            sequence.forget_read(sequence.n_tokens - 1)
            self._cut(sequence)
            self._alone = True
        self._loop = self._begun()  # its clock goes on from here
        return Prefilled(number, sequence.n_tokens, sequence.n_tokens + len(sequence.given), sequence.elapsed_seconds)

    def show(self) -> None:
        """Tell of the proposal, so that a person can see it before it is written."""
        assert self.proposed is not None
        self._emit(Proposed(self.proposed))

    def resample(self) -> None:
        """Choose the proposal once more, as things are set now, where there is one; the model is not asked."""
        if self.proposed is not None:
            step = self._loop.send(RESAMPLE)
            assert isinstance(step, Step)
            self.proposed = step
            self.show()

    def commit(self) -> Step:
        """The proposal is the next token of the text."""
        step, self.proposed, self._alone = self.proposed, None, False
        assert step is not None
        self._loop.send(COMMIT)
        self._on_commit(step)
        self._emit(step)
        return step

    def end(self, reason: str) -> None:
        """Write no more."""
        self.close()
        self._end(reason)

    def close(self) -> None:
        """Leave the run as it is: it can be written on from there by another writer."""
        self._loop.close()
        self.proposed = None

    def _end(self, reason: str, failed: bool = False) -> None:
        self.run.ended = reason
        self._emit(Ended(self.run.number, reason, failed))
