"""The comparison: a shadow or a twin, written or asked beside the present run, or neither."""

from __future__ import annotations

import time
from collections.abc import Callable

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.batching import leave_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.session.shadow import SAME_LOGITS, ShadowRun, create_shadow
from tui_entropy.engine.session.state import SessionState
from tui_entropy.engine.session.twin import TwinRun
from tui_entropy.engine.steering.plan import same_offsets
from tui_entropy.records.commands import Twin
from tui_entropy.records.events import STOPPED, ShadowChanged
from tui_entropy.records.knobs import check
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Step


class Comparisons:
    """A session has a shadow or a twin, or neither.

    A shadow goes with whatever run is written: where that is another one, or goes back in its text, the shadow reads
    that text under its own vectors and after its own prompt.
    """

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._twin: TwinRun | None = None
        self._wanted: Lane | None = None
        self._shadow_of: tuple[Lane | None, TokenSequence | None] = (None, None)
        """The lane that the shadow which is there was made for, and the sequence that it stands beside."""

    # --- Shadow ------------------------------------------------------------------------------------------------

    def set_shadow(self, lane: Lane | None) -> None:
        """Acts from the next step on. Raises UserError for knobs that no chain can have, and a prompt too long."""
        if lane is not None and self._twin is not None:
            raise UserError(
                "two lanes are written side by side, and a shadow would be a third: stop one of them first"
            )
        if lane is not None and lane.knobs is not None:
            check(lane.knobs, self._state.loaded.card.vocab)
        if lane is not None and self._state.sequence is not None:
            self._prompt(lane, self._state.sequence)
        self._wanted = lane

    def update(self, sequence: TokenSequence, now: Controls) -> None:
        """Before each forward pass and each choice: what is wanted becomes what is there, which is told."""
        if self._twin is not None:
            self._twin.apply()
        lane, shadow = self._wanted, sequence.shadow
        if sequence.n_read < sequence.n_tokens - 1 or (lane, shadow) == (None, None):
            return
        if lane is not None and shadow is not None and self._shadow_of == (lane, sequence):
            own = None if lane.vectors is None else self._state.offsets_of(lane.vectors, sequence)
            if shadow.sequence is not sequence:
                shadow.sequence.own_offsets = own
            if self._fits(sequence, own is None or same_offsets(own, now.offsets)):
                return
        self.leave(sequence)
        run, index = self._state.run_number, sequence.n_written
        if lane is None:
            self._state.emit(ShadowChanged(run, index, None))
            return
        began = time.perf_counter()
        try:
            sequence.shadow = self._shadow(lane, sequence, now)
        except UserError as mistake:
            self._wanted = None
            self._state.emit(ShadowChanged(run, index, None, how=str(mistake)))
            return
        self._shadow_of = (lane, sequence)
        seconds = time.perf_counter() - began
        self._state.emit(ShadowChanged(run, index, lane, sequence.shadow.how, seconds))

    def leave(self, sequence: TokenSequence | None) -> None:
        """Nothing stands beside this sequence any more."""
        if sequence is not None and sequence.shadow is not None:
            leave_batch(sequence)
            sequence.shadow = None
        self._shadow_of = (None, None)

    def _fits(self, sequence: TokenSequence, steered_alike: bool) -> bool:
        """Whether the shadow that is there is still the one that is wanted. steered_alike: by vectors of its own that
        add up to the same now, or by none."""
        assert sequence.shadow is not None
        own = sequence.shadow.sequence
        if sequence.shadow.how == SAME_LOGITS:
            return steered_alike
        unread = [one.n_tokens - one.n_read for one in (own, sequence)]
        goes_along = own.n_written == sequence.n_written and unread[0] == unread[1]
        return goes_along and (own.n_remaining > 0 or not sequence.n_remaining)

    def _shadow(self, lane: Lane, sequence: TokenSequence, now: Controls) -> ShadowRun:
        state = self._state
        prompt = self._prompt(lane, sequence)
        own = None
        if lane.vectors is not None:  # what its vectors are at every step of the text
            own = [state.offsets_of(lane.vectors, sequence, step) for step in range(sequence.n_written + 1)]
        controls = None if lane.knobs is None else state.controls_with(now.offsets, lane.knobs)
        return create_shadow(state.loaded, state.instruments, sequence, now, prompt, own, controls)

    def _prompt(self, lane: Lane, sequence: TokenSequence) -> list[int]:
        """Ids of the prompt of a lane beside a sequence. Raises UserError where it leaves no room."""
        if lane.prompt is None:
            return sequence.prompt.tolist()
        card, tokenizer, run = self._state.loaded.card, self._state.loaded.tokenizer, self._state.run
        ids = tokenizer.encode(lane.prompt, lane.system, run is not None and run.started.chat)
        if len(ids) + sequence.n_written >= card.context:
            raise UserError(
                f"the other prompt and the text have {len(ids) + sequence.n_written} tokens and {card.name} reads at "
                f"most {card.context}: shorten that prompt"
            )
        return ids

    # --- Twin --------------------------------------------------------------------------------------------------

    def twin_prompt(self, ask: Twin, run: Run) -> list[int]:
        """Ids of the prompt that a twin of this run would have. Raises UserError where there can be none."""
        if ask.lane.knobs is not None:
            check(ask.lane.knobs, self._state.loaded.card.vocab)
        if ask.lane.prompt is not None and ask.step:
            raise UserError("a lane with another prompt has no part of this text: begin the two at the first token")
        return self._prompt(ask.lane, run.sequence)

    def begin_twin(self, lane: Lane, prompt: list[int]) -> None:
        """Beside the present run, from its next token on."""
        self._twin = TwinRun(self._state, lane, prompt)

    @property
    def writing(self) -> bool:
        """A twin has a next token."""
        return self._twin is not None

    def advance(self) -> Step | None:
        """After each token of the first lane one of the twin, and after its end the twin's alone."""
        return self._of_twin(lambda twin: twin.write())

    def look_ahead(self) -> None:
        """Hold the twin's next token up."""
        self._of_twin(lambda twin: twin.look_ahead())

    def resample(self) -> None:
        """Choose what the twin holds up once more, as things are set now."""
        if self._twin is not None:
            self._twin.resample()

    def stop(self, reason: str = STOPPED) -> None:
        """The twin ends, and nothing stands beside the run any more."""
        if self._twin is not None:
            self._twin.end(reason)
            self._let_go(self._twin)
        self.leave(self._state.sequence)

    def abandon(self) -> None:
        """After a failure: nothing stands beside any run, and none shares a batch."""
        self._twin, self._shadow_of = None, (None, None)
        for run in self._state.runs.values():
            run.sequence.shadow = None
            run.sequence.batch = [run.sequence]

    def _of_twin(self, act: Callable[[TwinRun], Step | None]) -> Step | None:
        step = None if self._twin is None else act(self._twin)
        if step is None and self._twin is not None:
            self._let_go(self._twin)
        return step

    def _let_go(self, twin: TwinRun) -> None:
        """It is a run like any other now, and not the one in the cache."""
        leave_batch(twin.sequence)
        twin.sequence.reset_cache()
        self._twin = None
