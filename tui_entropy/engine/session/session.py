"""A loaded model with its instruments open, and the run it is writing. Tells what happens through `emit`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace as with_parts
from time import perf_counter

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.batching import leave_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.branching import Branches
from tui_entropy.engine.session.comparison import Comparisons
from tui_entropy.engine.session.head_selection import HeadSelection
from tui_entropy.engine.session.head_watch import HeadWatch
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.session.run_writer import RunWriter
from tui_entropy.engine.session.state import SessionState
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.engine.steering.plan import check_vector, same_offsets
from tui_entropy.engine.tokenization.prompts import encoded_prompt
from tui_entropy.engine.tokenization.tokenizer import prompt_tokens
from tui_entropy.records.commands import Branch, Twin, Write
from tui_entropy.records.events import (
    STOPPED,
    TEXT_READ,
    Event,
    KnobsChanged,
    Paused,
    Prefilled,
    Refused,
    SettingsPending,
    Started,
    Switched,
    VectorsChanged,
)
from tui_entropy.records.knobs import check
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Lane, Vector
from tui_entropy.records.step import Step


class Session:
    """All that a person can have done with a model, a method each. The worker and the headless command use it."""

    def __init__(
        self, loaded: Loaded, instruments: Instruments, emit: Callable[[Event], None], kept_cache: int = 0
    ) -> None:
        """kept_cache: bytes that may be kept beside the run that is written, for going back and to others."""
        self.state = SessionState(loaded, instruments, emit)
        self.branches = Branches(self.state, kept_cache)
        self.comparisons = Comparisons(self.state)
        self.heads = HeadSelection(self.state)
        self.head_watch = HeadWatch(self.state)

    # --- What there is -----------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """There is a next token to ask for."""
        return self.state.writer is not None or self.comparisons.writing

    @property
    def reading(self) -> bool:
        """There is more to read than the newest token."""
        return self.state.sequence is not None and self.state.sequence.n_pending > 0

    @property
    def cache_bytes(self) -> int:
        """Keys, values and kept queries."""
        kept = self.state.instruments.attention.kept_bytes
        return kept + (self.state.sequence.bytes if self.state.sequence else 0)

    # --- Runs --------------------------------------------------------------------------------------------------

    def begin(self, write: Write) -> None:
        """Stop what is being written and start a new run. Raises UserError, and then the old run goes on."""
        state, tokenizer, card = self.state, self.state.loaded.tokenizer, self.state.loaded.card
        check(write.knobs, card.vocab)
        if write.parent is not None:
            state.run_of(write.parent)
        prompt = encoded_prompt(tokenizer, card, write)
        n_given = len(prompt.given_ids)
        self.stop()
        self._leave()
        state.knobs = write.knobs
        started = Started(
            state.new_number(), prompt.text, write.system, prompt.chat, prompt_tokens(tokenizer, prompt.prompt_ids),
            knobs=state.knobs, vectors=state.vectors, max_tokens=write.max_tokens, parent=write.parent,
            n_given=n_given, stop=write.stop, request=write.request, end_ids=tuple(sorted(tokenizer.eos_ids)),
        )  # fmt: skip
        state.emit(started)
        for what in prompt.left_out:
            state.emit(Refused(f"the model's chat template leaves {what} out, so the model does not read it", True))
        sequence = TokenSequence(state.loaded, prompt.prompt_ids, n_given + write.max_tokens)
        sequence.given = prompt.given_ids
        run = Run(started, sequence, state.controls(), state.vectors, write.score_prompt)
        self.branches.add(run)
        self._enter(run)

    def branch(self, ask: Branch, anew: bool = False) -> int:
        """Write on from before a step, in its run where it is the next one and not `anew`, else in a new one. Returns
        how many tokens are forced. Raises UserError, and then all is as it was."""
        state, parent = self.state, self.state.run_of(ask.run)
        forced = self.branches.forced(ask)
        state.check_step(parent, ask.step)
        here = self._is_next(parent, ask.step) and not anew
        if not here:
            self.branches.check_fork(parent, ask.step)
            self.comparisons.stop()
            self._leave()
            self._enter(self.branches.fork(parent, ask.step))
        self.branches.tell_next(forced, ask.ban)
        if here:
            self.resample()
        return len(forced)

    def go(self, number: int) -> None:
        """To another run, which stands where it was left. What is written now is left as it is. Raises UserError."""
        run = self.state.run_of(number)
        if run.deleted:
            raise UserError(f"run {number} was deleted and nothing is kept for it: bring it back first")
        self.comparisons.stop()
        how = self.come_to(run)
        if run.ended is None:
            self.state.emit(Paused(number, how))
            self.look_ahead(read_all=True)

    def come_to(self, run: Run) -> str:
        """A run that was left is the present one; the loop reads what the cache lacks. Returns how it came back."""
        self._leave()
        self.state.emit(Switched(run.number))
        self.state.restore(run)
        how = self.branches.rewinder.activate(run.sequence)
        self._enter(run)
        return how

    def begin_twin(self, ask: Twin) -> None:
        """From before a step of a run, in that run where the step is the one that comes next. Raises UserError, and
        then all is as it was."""
        state, run = self.state, self.state.run_of(ask.run)
        state.check_step(run, ask.step)
        prompt = self.comparisons.twin_prompt(ask, run)
        if self._is_next(run, ask.step):
            self.comparisons.stop()
            self.comparisons.set_shadow(None)
            self.resample()
        else:
            self.comparisons.set_shadow(None)
            self.branch(Branch(ask.run, ask.step))
        self.comparisons.begin_twin(ask.lane, prompt)
        if state.proposed is not None:
            self.comparisons.look_ahead()

    def stop(self, reason: str = STOPPED) -> None:
        """End the run, if there is one. Its keys and values stay, so that it can still be looked at."""
        if writer := self.state.writer:
            self._leave()
            writer.end(reason)
        self.comparisons.stop(reason)

    def reopen(self) -> bool:
        """Go on with the present run, where a person had stopped it. Returns whether that was so."""
        run = self.state.run
        if run is None or run.ended != STOPPED or self.active:
            return False
        run.ended = None
        self._enter(run)
        return True

    def abandon(self) -> None:
        """Write no more after a failure, when not even closing the loop can be trusted. To go to a run, this one or
        another, begins anew from its ids."""
        self.state.writer = None
        self.branches.abandon()
        self.comparisons.abandon()

    def _is_next(self, run: Run, step: int) -> bool:
        """The step is the one that comes next in the run that is written."""
        return run is self.state.run and self.state.writer is not None and step == run.sequence.n_written

    def _leave(self) -> None:
        """Nothing is written any more, and no run ends by it. Nothing shares its forward passes."""
        if self.state.writer is not None:
            self.state.writer.close()
        self.state.writer = None
        if self.state.sequence is not None:
            self.comparisons.leave(self.state.sequence)
            leave_batch(self.state.sequence)

    def _enter(self, run: Run) -> None:
        """This is the present run, and it is written on from now on unless it has ended."""
        self.state.run = run
        self.state.breakpoints.begin(run.number, run.sequence.n_written, self.state.written_text(run.sequence))
        self._resume()

    def _resume(self) -> None:
        """Write on in the present run, all of which is read but the newest token and what is pending."""
        if (state := self.state).run is not None and state.run.ended is None:
            state.writer = RunWriter(
                state.loaded, state.instruments, state.emit, state.run, self._apply, self._written, state.breakpoints,
                self.branches.rewinder.activate,
            )  # fmt: skip

    def _written(self, step: Step) -> None:
        """A step is part of the text of the present run now."""
        state = self.state
        assert state.run is not None
        self.heads.find(state.run.sequence)
        state.judge(state.run.sequence, state.run.vectors, step)
        state.breakpoints.written(step)

    # --- Writing -----------------------------------------------------------------------------------------------

    def advance(self) -> Event | None:
        """One stretch of the prompt or one token; None at the end. Emits it either way.

        What stops it before a token is written is given back in place of the token: a Paused.
        """
        writer = self.state.writer
        if writer is None:
            return self.comparisons.advance()
        reads = bool(writer.run.sequence.given)
        if writer.proposed is None:
            event = self._next(writer)
            if not isinstance(event, Step):
                return (self._rest_after_text(writer) if reads else None) or event
            if stop := self.state.breakpoints.before(event):
                writer.show()
                self.state.emit(stop)
                return stop
        step = writer.commit()
        self.head_watch.tell(writer.run.sequence, step.run, step.position)
        self.comparisons.advance()
        return (self._rest_after_text(writer) if reads else None) or step

    def _rest_after_text(self, writer: RunWriter) -> Paused | None:
        """A pause where a text that was there is read to its end: what comes next is for a person to say."""
        if writer is not self.state.writer or writer.run.sequence.given:
            return None
        paused = Paused(writer.run.number, TEXT_READ)
        self.state.emit(paused)
        self.look_ahead()
        return paused

    def look_ahead(self, read_all: bool = False) -> None:
        """Hold the next token up for a person to see before it is written. While the prompt is being read only if
        all is to be read for it."""
        if read_all:
            self.read_all()
        while (writer := self.state.writer) and writer.proposed is None and (read_all or not self.reading):
            if writer.run.sequence.given:
                break  # nobody chooses what stands there
            self.branches.rewinder.checkpoint(at_once=not self.reading)
            event = self._next(writer)
            if isinstance(event, Step):
                writer.show()
                if stop := self.state.breakpoints.before(event):
                    self.state.emit(stop)
        if not self.reading:
            self.comparisons.look_ahead()

    def read_all(self) -> None:
        """Read again, at once, what was read before and is no longer in the cache."""
        if sequence := self.state.sequence:
            for done in self.branches.rewinder.read_missing(sequence, sequence.n_tokens - 1):
                number = self.state.run_number
                self.state.emit(Prefilled(number, done, sequence.n_tokens, sequence.elapsed_seconds))

    def resample(self) -> None:
        """Choose the token that is held up once more, as things are set now; the model is not asked."""
        if self.state.writer is not None:
            self.state.writer.resample()
        self.comparisons.resample()

    def _next(self, writer: RunWriter) -> Event | None:
        event = writer.next()
        if event is None:
            self.state.writer = None
        else:
            self.branches.rewinder.checkpoint()
        return event

    # --- Settings ----------------------------------------------------------------------------------------------

    def set_knobs(self, knobs: Knobs) -> None:
        """Acts from the next token on. Raises UserError for a value that no chain can have."""
        check(knobs, self.state.loaded.card.vocab)
        self.state.knobs = knobs
        if not knobs.lens:
            self.state.instruments.lens.head.release()
        self.resample()
        self._tell_pending()

    def set_breakpoints(self, breakpoints: Sequence[Breakpoint]) -> None:
        """Acts from the next proposal on. Raises UserError for an expression that is wrong."""
        self.state.breakpoints.set_breakpoints(breakpoints)
        self._track()

    def set_watches(self, texts: Iterable[str]) -> None:
        """Acts from the next token on. Raises UserError for a text that is no token."""
        self.state.breakpoints.set_watches(texts)
        self._track()

    def _track(self) -> None:
        """Measure the tokens that are watched at what is held up, too."""
        run = self.state.run
        if run is not None and self.state.breakpoints.watched != run.controls.watched:
            self.resample()

    def set_vector(self, vector: Vector, rebuild: bool = False, made: ControlVector | None = None) -> None:
        """Acts from the next token on, and what is held up is read and chosen again; keys and values stay as they
        are, or with `rebuild` the whole text is read again. A vector that is not known yet is read from its file
        first, or is `made`. Raises UserError.

        A known vector is meant by its name where `source` is its own source or that name.
        """
        state = self.state
        check_vector(vector, state.loaded.card)
        known = state.known_vector(vector)
        if known is None or made is not None:
            self._add_vector(vector, made)
        else:
            setting = replace(vector, source=known.source, blocks=known.blocks, part=known.part, hash=known.hash)
            state.vectors = tuple(setting if v is known else v for v in state.vectors)
        if state.run is None:
            return
        held_up = state.proposed is not None
        if rebuild and state.run.sequence.prefix_ids:
            self.rebuild()
        elif held_up and not same_offsets(state.run.controls.offsets, state.offsets()):
            self._leave()
            self.branches.rewinder.activate(state.run.sequence)
            self._resume()
        if held_up and state.proposed is None:
            self.look_ahead(read_all=True)
        else:
            self.resample()
        self._tell_pending()

    def _tell_pending(self) -> None:
        """Tell of what is set, where it does not act on what is held up already."""
        state = self.state
        if state.run is not None and state.proposed is None:
            state.emit(SettingsPending(state.run_number, state.knobs, state.vectors))

    def _add_vector(self, vector: Vector, made: ControlVector | None) -> None:
        setting, run = self.state.add_vector(vector, made), self.state.run
        applied = self.state.vectors
        if run is not None:  # where a text is being written it acts from the next token on
            run.vectors = applied = (*run.vectors, replace(setting, on=False))
        self.state.emit(VectorsChanged(self.state.run_number, self.state.n_written, applied))

    def rebuild(self) -> None:
        """Read the whole text of the present run again, under the vectors that are set."""
        state, run = self.state, self.state.run
        assert run is not None
        began, sequence, offsets = perf_counter(), run.sequence, state.offsets()
        n = min(len(sequence.prefix_ids), sequence.n_tokens - 1)
        before = sequence.offsets, sequence.prefix_ids
        self._leave()
        sequence.read_anew(n, offsets)
        try:
            self.read_all()
        except BaseException:
            sequence.offsets, sequence.prefix_ids = before
            raise
        run.controls, run.vectors = state.controls_with(offsets, run.controls.knobs), state.vectors
        self.branches.drop_unused()
        self._resume()
        seconds = perf_counter() - began
        state.emit(VectorsChanged(run.number, sequence.n_written, run.vectors, True, seconds))

    def set_shadow(self, lane: Lane | None) -> None:
        """Acts from the next step on, and on the one that is held up. Raises UserError."""
        self.comparisons.set_shadow(lane)
        self.resample()

    def _apply(self) -> None:
        """Apply what is set, and tell of it. Called before each forward pass and each choice."""
        state, run = self.state, self.state.run
        assert run is not None
        was, had = run.controls, run.vectors
        set_now = state.knobs, state.breakpoints.watched
        if (was.knobs, was.watched) != set_now:
            run.controls = state.controls()
        elif not same_offsets(was.offsets, offsets := state.offsets()):
            run.controls = with_parts(was, offsets=offsets)
        run.vectors = state.vectors
        if was.knobs != state.knobs:
            state.emit(KnobsChanged(run.number, state.n_written, state.knobs))
        if had != state.vectors:
            state.emit(VectorsChanged(run.number, state.n_written, state.vectors))
        self.comparisons.update(run.sequence, run.controls)
