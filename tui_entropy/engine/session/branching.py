"""The runs of a session as a forest: how one begins in the midst of another, and how to go from one to the next."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.choose import build_step, choose
from tui_entropy.engine.measure.clock import Clock
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.rewind import Rewinder
from tui_entropy.engine.session.run import Run
from tui_entropy.records.commands import AskAttention, Branch, Label, Reconsider
from tui_entropy.records.events import AttentionRows, Labelled, Paused, Reconsidered, Switched, VectorsChanged
from tui_entropy.records.knobs import check

if TYPE_CHECKING:
    from tui_entropy.engine.session.session import Session


class Branches:
    """All runs of a session. One of them is in the cache, and what is kept of the others is bounded."""

    def __init__(self, session: Session, bound: int) -> None:
        """bound: bytes that may be kept beside the run that is in the cache."""
        self.session = session
        self.rewinder = Rewinder(session.loaded, session.probes, bound)
        self.runs: dict[int, Run] = {}
        self._looked: tuple[object, TokenSequence] | None = None
        """The step that was reconsidered last: which it was, and the sequence as it was then."""

    def run(self, number: int) -> Run:
        """Raises UserError for one that is not there, or not any more."""
        found = self.runs.get(number)
        if found is None:
            raise UserError(f"there is no run {number}: there are {len(self.runs)} of them, choose one of those")
        return found

    def add(self, run: Run) -> None:
        """One more, which shares nothing with others. It is in the cache from now on."""
        self.runs[run.number] = run
        self.rewinder.activate(run.sequence)

    def branch(self, ask: Branch) -> int:
        """Write on from before a step, in its run or in a new one. Returns how many tokens are forced. Raises
        UserError, and then all is as it was."""
        session, parent = self.session, self.run(ask.run)
        forced = self._forced(ask)
        self.check_step(parent, ask.step)
        here = parent is session.run and session.first_writes and ask.step == parent.sequence.n_written
        if not here:
            self._begin(parent, ask.step)
        assert session.sequence is not None
        session.sequence.forced, session.sequence.banned = forced, frozenset(ask.ban)
        if here:
            session.propose_again()
        return len(forced)

    def _begin(self, parent: Run, step: int) -> None:
        """A new run that shares what comes before a step."""
        session, card = self.session, self.session.loaded.card
        if parent.sequence.n_prompt + step >= card.context:
            raise UserError(f"before step {step} the context of {card.context} tokens is full: branch off earlier")
        session.lanes.stop()
        session.leave()
        sequence = parent.sequence.branch(step, parent.started.max_tokens)
        number = session.new_number()
        how = self.rewinder.activate(sequence)
        started = replace(
            parent.started,
            run=number,
            knobs=session.knobs,
            vectors=session.vectors,
            parent=parent.number,
            shared=step,
            how=how,
            twin_of=None,
        )
        run = self.runs[number] = Run(started, sequence, session.set_now(), session.vectors, parent.score_prompt)
        session.emit(started)
        session.enter(run)

    def _forced(self, ask: Branch) -> list[int]:
        """Ids of what is to be written whatever the model says. Raises UserError for one that is no token."""
        codec, vocab = self.session.loaded.codec, self.session.loaded.card.vocab
        for token_id in (*ask.token_ids, *ask.ban):
            if not 0 <= token_id < vocab:
                raise UserError(f"there is no token {token_id}: this model has those from 0 to {vocab - 1}")
        return [*ask.token_ids, *(codec.continuing(ask.text) if ask.text else ())]

    def check_step(self, run: Run, step: int) -> None:
        written = run.sequence.n_written
        if not 0 <= step <= written:
            raise UserError(f"run {run.number} has {written} steps, so there is no step {step} in it: go back first")

    def go(self, number: int) -> None:
        """To another run, which stands where it was left. What is written now is left as it is. Raises UserError."""
        session, run = self.session, self.run(number)
        if run.deleted:
            raise UserError(f"run {number} was deleted and nothing is kept for it: bring it back first")
        session.lanes.stop()
        session.leave()
        session.emit(Switched(number))
        session.take_over(run)
        how = self.rewinder.activate(run.sequence)
        session.enter(run)
        if run.ended is None:
            session.emit(Paused(number, how))
            session.look_ahead(read_all=True)

    def label(self, ask: Label) -> None:
        """Name it, star it, delete it, or bring it back. Raises UserError."""
        run = self.run(ask.run)
        if ask.deleted and run is self.session.run:
            raise UserError(f"run {ask.run} is the one that you are in: go to another one before it is deleted")
        run.name = run.name if ask.name is None else ask.name
        run.starred = run.starred if ask.starred is None else ask.starred
        run.deleted = run.deleted if ask.deleted is None else ask.deleted
        if run.deleted:
            self._drop_unused()
        self.session.emit(Labelled(run.number, run.name, run.starred, run.deleted))

    def _drop_unused(self) -> None:
        in_use = (run.sequence.prefix_ids for run in self.runs.values() if not run.deleted)
        self.rewinder.prefix_cache.drop(set().union(*in_use))

    def reconsider(self, ask: Reconsider) -> Reconsidered:
        """A step as it would be with other knobs. The model is asked once for as long as it is the same step. Raises
        UserError."""
        check(ask.knobs, self.session.loaded.card.vocab)
        run = self.run(ask.run)
        self.check_step(run, ask.step)
        session, then = self.session, self._as_before(run, ask.step)
        now = session.made({}, ask.knobs)
        clock = Clock(session.loaded.model.device, then.elapsed_seconds)
        assert then.logits is not None
        step, _ = build_step(
            session.loaded,
            session.probes,
            then,
            now,
            choose(session.probes, then, now, then.logits),
            clock,
            run.number,
        )
        return Reconsidered(step)

    def _as_before(self, run: Run, step: int) -> TokenSequence:
        """The sequence as it was before a step, with what was forced and banned there, and what the model said."""
        position = run.sequence.n_prompt + step - 1
        if position >= len(run.sequence.prefix_ids):
            raise UserError(f"step {step} of run {run.number} was not come to yet: continue first")
        which = run.number, step, run.sequence.prefix_ids[position]
        if self._looked is None or self._looked[0] != which:
            then = run.sequence.branch(step)
            seen = self.rewinder.recompute_step(run.sequence, position)
            then.attention_state, then.vectors, then.logits = seen.attention_state, seen.vectors, seen.logits
            self._looked = which, then
        then = self._looked[1]
        pending = [run.sequence.forced[0]] if run.sequence.forced else [], run.sequence.banned
        newest = step == run.sequence.n_written
        then.forced, then.banned = pending if newest else run.sequence.interventions.get(step, ([], frozenset()))
        return then

    def rebuild(self) -> None:
        """Read the whole text of the present run again, under the vectors that are set."""
        session, run = self.session, self.session.run
        assert run is not None
        began, sequence, offsets = perf_counter(), run.sequence, session.offsets()
        n = min(len(sequence.prefix_ids), sequence.n_tokens - 1)
        before = sequence.offsets, sequence.prefix_ids
        session.leave()
        sequence.reset_cache()
        sequence.offsets, sequence.prefix_ids = [], []
        sequence.mark_read(n, offsets)
        try:
            session.read_all()
        except BaseException:
            sequence.offsets, sequence.prefix_ids = before
            raise
        run.controls, run.vectors = session.made(offsets, run.controls.knobs), session.vectors
        self._drop_unused()
        session.resume()
        seconds = perf_counter() - began
        session.emit(VectorsChanged(run.number, sequence.n_written, run.vectors, True, seconds))

    def rows(self, ask: AskAttention) -> AttentionRows | None:
        """Attention rows of the present run. None before the first."""
        run = self.session.run
        return None if run is None else self.rewinder.rows(run.sequence, ask, run.number)

    def abandon(self) -> None:
        """After a failure: read the texts again from their ids."""
        self._looked = None
        self.rewinder.forget()
