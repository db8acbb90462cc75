"""The runs of a session as a forest: how one begins in the midst of another, and what is kept of each."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.choose import build_step, choose
from tui_entropy.engine.measure.clock import Clock
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.rewind import Rewinder
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.session.state import SessionState
from tui_entropy.records.commands import Branch, Label
from tui_entropy.records.events import Labelled, NextTokens
from tui_entropy.records.knobs import check
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step


class Branches:
    """All runs of a session. One of them is in the cache, and what is kept of the others is bounded."""

    def __init__(self, state: SessionState, bound: int) -> None:
        """bound: bytes that may be kept beside the run that is in the cache."""
        self._state = state
        self.rewinder = Rewinder(state.loaded, state.instruments, bound)
        self._reconsidered: tuple[object, TokenSequence] | None = None
        """The step that was reconsidered last: which it was, and the sequence as it was then."""

    def add(self, run: Run) -> None:
        """One more, which shares nothing with others. It is in the cache from now on."""
        if given := run.sequence.given:
            self._state.emit(NextTokens(run.number, 0, tuple(given)))
        self._state.runs[run.number] = run
        self.rewinder.activate(run.sequence)

    def fork(self, parent: Run, step: int) -> Run:
        """A new run that shares what comes before a step, under what is set now; it is told of, and in the cache from
        now on."""
        state = self._state
        sequence = parent.sequence.branch(step, parent.started.max_tokens)
        number = state.new_number()
        how = self.rewinder.activate(sequence)
        started = replace(
            parent.started,
            run=number,
            knobs=state.knobs,
            vectors=state.vectors,
            parent=parent.number,
            shared=step,
            n_given=min(parent.started.n_given, step),
            how=how,
            twin_of=None,
            request="",
        )
        run = state.runs[number] = Run(started, sequence, state.controls(), state.vectors, parent.score_prompt)
        state.emit(started)
        return run

    def check_fork(self, parent: Run, step: int) -> None:
        """Raises UserError where no further token has room."""
        card = self._state.loaded.card
        if parent.sequence.n_prompt + step >= card.context:
            raise UserError(f"before step {step} the context of {card.context} tokens is full: branch off earlier")

    def forced(self, ask: Branch) -> list[int]:
        """Ids of what is to be written whatever the model says. Raises UserError for one that is no token."""
        tokenizer, vocab = self._state.loaded.tokenizer, self._state.loaded.card.vocab
        for token_id in (*ask.token_ids, *ask.ban):
            if not 0 <= token_id < vocab:
                raise UserError(f"there is no token {token_id}: this model has those from 0 to {vocab - 1}")
        return [*ask.token_ids, *(tokenizer.encode_continuation(ask.text) if ask.text else ())]

    def tell_next(self, forced: Sequence[int], banned: Sequence[int]) -> None:
        """The next tokens of the present run are these, whatever the model says, and the next one none of those that
        are banned. Told where that is, or was, more than nothing."""
        run = self._state.run
        assert run is not None
        sequence = run.sequence
        if forced or banned or sequence.forced or sequence.banned:
            self._state.emit(NextTokens(run.number, sequence.n_written, (), tuple(forced), tuple(banned)))
        sequence.forced, sequence.banned = list(forced), frozenset(banned)

    def label(self, ask: Label) -> None:
        """Name it, star it, delete it, or bring it back. Raises UserError."""
        run = self._state.run_of(ask.run)
        if ask.deleted and run is self._state.run:
            raise UserError(f"run {ask.run} is the one that you are in: go to another one before it is deleted")
        run.name = run.name if ask.name is None else ask.name
        run.starred = run.starred if ask.starred is None else ask.starred
        run.deleted = run.deleted if ask.deleted is None else ask.deleted
        if run.deleted:
            self.drop_unused()
        self._state.emit(Labelled(run.number, run.name, run.starred, run.deleted))

    def drop_unused(self) -> None:
        """Drop the keys, values and states that belong to no run any more."""
        in_use = (run.sequence.prefix_ids for run in self._state.runs.values() if not run.deleted)
        self.rewinder.prefix_cache.drop(set().union(*in_use))

    def step_with(self, run: Run, step: int, knobs: Knobs, visit: bool = False) -> Step:
        """A step as it would be with other knobs. The model is asked once for as long as it is the same step. Raises
        UserError.

        visit: nothing is drawn where a token is there.
        """
        state = self._state
        check(knobs, state.loaded.card.vocab)
        state.check_step(run, step)
        then, now = self._as_before(run, step), state.controls_with({}, knobs)
        clock = Clock(state.loaded.model.device, then.elapsed_seconds)
        assert then.logits is not None
        is_there = step < run.sequence.n_written
        given = int(run.sequence.written[step]) if visit and is_there else None
        choice = choose(state.instruments, then, now, then.logits, given)
        made, _ = build_step(state.loaded, state.instruments, then, now, choice, clock, run.number)
        return made

    def _as_before(self, run: Run, step: int) -> TokenSequence:
        """The sequence as it was before a step, with what was forced and banned there, and what the model said."""
        position = run.sequence.n_prompt + step - 1
        if position >= len(run.sequence.prefix_ids):
            raise UserError(f"step {step} of run {run.number} was not come to yet: continue first")
        which = run.number, step, run.sequence.prefix_ids[position]
        if self._reconsidered is None or self._reconsidered[0] != which:
            then = run.sequence.branch(step)
            seen = self.rewinder.recompute_step(run.sequence, position)
            then.attention_state, then.vectors, then.logits = seen.attention_state, seen.vectors, seen.logits
            self._reconsidered = which, then
        then = self._reconsidered[1]
        pending = [run.sequence.forced[0]] if run.sequence.forced else [], run.sequence.banned
        newest = step == run.sequence.n_written
        then.forced, then.banned = pending if newest else run.sequence.interventions.get(step, ([], frozenset()))
        return then

    def abandon(self) -> None:
        """After a failure: read the texts again from their ids."""
        self._reconsidered = None
        self.rewinder.forget()
