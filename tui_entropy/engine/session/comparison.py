"""Two minds on one text: what a person wants beside the run, and what of it stands there now."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.batching import leave_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.shadow import SAME_LOGITS, Offsets, ShadowRun, create_shadow
from tui_entropy.engine.session.twin import TwinRun
from tui_entropy.engine.steering import control_vector
from tui_entropy.records.commands import Branch, Twin
from tui_entropy.records.events import ShadowChanged
from tui_entropy.records.knobs import check
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Step

if TYPE_CHECKING:
    from tui_entropy.engine.session.session import Session


class Comparisons:
    """A session has a shadow or a twin, or neither.

    A shadow goes with whatever run is written: where that is another one, or goes back in its text, the shadow reads
    that text under its own vectors and after its own prompt.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.twin: TwinRun | None = None
        self._wanted: Lane | None = None
        self._shadow_of: tuple[Lane | None, TokenSequence | None] = (None, None)
        self._offsets: Offsets = {}
        """What the watched lane was under when its shadow was cast."""

    # --- Shadow ------------------------------------------------------------------------------------------------

    def set_shadow(self, lane: Lane | None) -> None:
        """Acts from the next step on. Raises UserError for knobs that no chain can have, and a prompt too long."""
        if lane is not None and self.twin is not None:
            raise UserError(
                "two lanes are written side by side, and a shadow would be a third: stop one of them first"
            )
        if lane is not None and lane.knobs is not None:
            check(lane.knobs, self.session.loaded.card.vocab)
        if lane is not None and self.session.sequence is not None:
            self._prompt(lane, self.session.sequence)
        self._wanted = lane

    def settle(self, sequence: TokenSequence, now: Controls) -> None:
        """Asked before each forward pass and each choice: what is wanted becomes what is there."""
        if self.twin is not None:
            self.twin.settled()
        lane, shadow = self._wanted, sequence.shadow
        if sequence.n_read < sequence.n_tokens - 1 or (lane, shadow) == (None, None):
            return
        if (
            lane is not None
            and self._shadow_of == (lane, sequence)
            and shadow is not None
            and self._fits(sequence, now)
        ):
            return
        self.leave(sequence)
        run, index = self.session.run_number, sequence.n_written
        if lane is None:
            self.session.emit(ShadowChanged(run, index, None))
            return
        began = time.perf_counter()
        try:
            sequence.shadow = self._cast(lane, sequence, now)
        except UserError as mistake:
            self._wanted = None
            self.session.emit(ShadowChanged(run, index, None, how=str(mistake)))
            return
        self._shadow_of, self._offsets = (lane, sequence), now.offsets
        seconds = time.perf_counter() - began
        self.session.emit(ShadowChanged(run, index, lane, sequence.shadow.how, seconds))

    def leave(self, sequence: TokenSequence | None) -> None:
        """Nothing stands beside this sequence any more."""
        if sequence is not None and sequence.shadow is not None:
            leave_batch(sequence)
            sequence.shadow = None
        self._shadow_of = (None, None)

    def _fits(self, sequence: TokenSequence, now: Controls) -> bool:
        """Whether the shadow that is there is still the one that is wanted."""
        assert sequence.shadow is not None
        own = sequence.shadow.sequence
        if sequence.shadow.how == SAME_LOGITS:
            return now.offsets is self._offsets
        behind = (
            own.n_written == sequence.n_written and own.n_tokens - own.n_read == sequence.n_tokens - sequence.n_read
        )
        return behind and (own.n_remaining > 0 or not sequence.n_remaining)

    def _cast(self, lane: Lane, sequence: TokenSequence, now: Controls) -> ShadowRun:
        session = self.session
        prompt = self._prompt(lane, sequence)
        under = None if lane.vectors is None else control_vector.offsets(lane.vectors, session.directions)
        controls = None if lane.knobs is None else session.made(now.offsets, lane.knobs)
        return create_shadow(session.loaded, session.probes, sequence, now, prompt, under, controls)

    def _prompt(self, lane: Lane, sequence: TokenSequence) -> list[int]:
        """Ids of the prompt of a lane beside a sequence. Raises UserError where it leaves no room."""
        if lane.prompt is None:
            return sequence.prompt.tolist()
        card, codec = self.session.loaded.card, self.session.loaded.codec
        ids = codec.encode(lane.prompt, lane.system, self.session.chat)
        if len(ids) + sequence.n_written >= card.context:
            raise UserError(
                f"the other prompt and the text have {len(ids) + sequence.n_written} tokens and {card.name} reads at "
                f"most {card.context}: shorten that prompt"
            )
        return ids

    # --- Twin --------------------------------------------------------------------------------------------------

    def begin_twin(self, ask: Twin) -> None:
        """From before a step of a run, in that run where the step is the one that comes next. Raises UserError, and
        then all is as it was."""
        session, lane = self.session, ask.lane
        run = session.branches.run(ask.run)
        session.branches.check_step(run, ask.step)
        if lane.knobs is not None:
            check(lane.knobs, self.session.loaded.card.vocab)
        if lane.prompt is not None and ask.step:
            raise UserError("a lane with another prompt has no part of this text: begin the two at the first token")
        prompt = self._prompt(lane, run.sequence)
        if run is session.run and session.first_writes and ask.step == run.sequence.n_written:
            self.stop()
            self.set_shadow(None)
            session.propose_again()
        else:
            self.set_shadow(None)
            session.branches.branch(Branch(ask.run, ask.step))
        self.twin = TwinRun(session, lane, prompt)
        if session.proposed is not None:
            self.look_ahead()

    @property
    def writing(self) -> bool:
        """A twin has a next token."""
        return self.twin is not None

    def advance(self) -> Step | None:
        """After each token of the first lane one of the twin, and after its end the twin's alone."""
        return self._of_twin(lambda twin: twin.write())

    def look_ahead(self) -> None:
        self._of_twin(lambda twin: twin.look_ahead())

    def propose_again(self) -> None:
        if self.twin is not None:
            self.twin.propose_again()

    def stop(self, reason: str = "stopped") -> None:
        """The twin ends, and nothing stands beside the run any more."""
        if self.twin is not None:
            self.twin.end(reason)
            self._let_go(self.twin)
        self.leave(self.session.sequence)

    def abandon(self) -> None:
        self.twin, self._shadow_of = None, (None, None)
        for run in self.session.branches.runs.values():
            run.sequence.shadow = None
            run.sequence.batch = [run.sequence]

    def _of_twin(self, act: Callable[[TwinRun], Step | None]) -> Step | None:
        step = None if self.twin is None else act(self.twin)
        if step is None and self.twin is not None:
            self._let_go(self.twin)
        return step

    def _let_go(self, twin: TwinRun) -> None:
        """It is a run like any other now, and not the one in the cache."""
        leave_batch(twin.sequence)
        twin.sequence.reset_cache()
        self.twin = None
