"""ServerSession: the runs of a server, the stream that writes the present one, and what a person has done with them.

What is asked for is always "so many tokens behind these". A stream of them is read for as long as nothing else is
wanted; a knob that is turned, a token that is forced, a branch and a pause end it, and the next one is asked for with
all that is written by then, which the server's prefix cache makes cheap.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec.structs import replace

from tui_entropy.breakpoints.controller import BreakpointController
from tui_entropy.breakpoints.parser import TEXT_TAIL_CHARS
from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Branch, Label, Write
from tui_entropy.records.events import (
    STOPPED,
    TEXT_READ,
    Ended,
    Event,
    KnobsChanged,
    Labelled,
    NextTokens,
    Paused,
    Prefilled,
    Proposed,
    Refused,
    SettingsPending,
    Started,
    Switched,
    VectorsChanged,
)
from tui_entropy.records.knobs import check
from tui_entropy.records.model import ModelCard
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.records.source import OwnDraw
from tui_entropy.records.step import NO_ID, Step
from tui_entropy.servers.asked import Asked, stream_of
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.run import ServerRun, changed, replayed
from tui_entropy.servers.steps import StepMaker
from tui_entropy.servers.streams.told_token import ToldToken
from tui_entropy.servers.texts.encoded import encoded
from tui_entropy.servers.texts.scores import tell_scores
from tui_entropy.servers.texts.text_stream import TOLD_EVERY, TextStream
from tui_entropy.servers.token_stream import ENDS, Arrival, StreamEnd, TokenStream
from tui_entropy.servers.tokens import TokenNames
from tui_entropy.servers.told_steps import ToldSteps
from tui_entropy.servers.vllm_lens.inside import Inside
from tui_entropy.servers.vllm_lens.steering import steers

PATIENCE_S = 0.05
"""Seconds for which a token is waited for before commands are heard again."""


class ServerSession:
    """All that can be done with a model behind a server, a method each."""

    def __init__(
        self,
        server: Kind,
        card: ModelCard,
        emit: Callable[[Event], None],
        own_draw: Callable[..., OwnDraw] | None = None,
        inside: Inside | None = None,
    ) -> None:
        """own_draw: as of engine/decoding/own_draw.py; None where the server draws. inside: of a server whose model's
        inside is told; else None."""
        self.server, self.card, self.emit, self.inside = server, card, emit, inside
        self.names = TokenNames(server)
        self.told_steps = ToldSteps(server, card, self.names, emit, own_draw)
        self.breakpoints = BreakpointController(card, self.names, emit)
        self.knobs = Knobs()
        self.vectors = inside.steering.vectors if inside else ()
        self._rebuild = False
        """What is set of vectors acts on the whole text, read again, and not on what follows only."""
        self.runs: dict[int, ServerRun] = {}
        self.run: ServerRun | None = None
        self.proposed: Step | None = None
        """The next step, while it is held up for a person."""
        self._told: ToldToken | None = None
        """What the server told at the place of that step."""
        self._stream: TokenStream | None = None
        self._asked_at = 0.0

    @property
    def active(self) -> bool:
        """There is a next token to ask for."""
        return self.run is not None and self.run.ended is None

    # --- Runs --------------------------------------------------------------------------------------------------

    def begin(self, write: Write) -> None:
        """Stop what is being written and start a new run. Raises UserError, and then the old one goes on."""
        check(write.knobs, self.card.vocab or 2**31)
        if write.parent is not None:
            self.run_of(write.parent)
        text = encoded(self.server, self.names, self.card, write)
        if text.given and steers(self.vectors):
            raise UserError("a text is read here without vectors: switch them off first")
        self.stop()
        self.knobs = write.knobs
        number = max(self.runs, default=0) + 1
        started = Started(
            number, text.text, write.system, text.chat, text.prompt, write.knobs, self.vectors, write.max_tokens,
            parent=write.parent, n_given=len(text.given),
        )  # fmt: skip
        self.emit(started)
        if write.score_prompt and not text.given and not steers(self.vectors):
            tell_scores(self.server, started, self.card.vocab, self.emit)
        maker = StepMaker(self.card, self.names, len(text.prompt))
        run = ServerRun(
            started, text.messages, write.knobs, maker, changes=[(0, self.vectors)], given=list(text.given)
        )
        if run.given:
            self.emit(NextTokens(number, 0, tuple(token.token_id for token in run.given)))
        self._enter(run)

    def branch(self, ask: Branch) -> int:
        """Write on from before a step, in its run where it is the next one, else in a new one. Returns how many
        tokens are forced. Raises UserError, and then all is as it was."""
        parent = self.run_of(ask.run)
        if not 0 <= ask.step <= len(parent.steps):
            raise UserError(f"run {ask.run} has {len(parent.steps)} steps, so there is no step {ask.step} in it")
        forced = self._forced(ask)
        here = parent is self.run and self.active and ask.step == len(parent.steps) and not parent.given
        if not here:
            self._fork(parent, ask.step)
        assert self.run is not None
        if forced or ask.ban or self.run.forced or self.run.banned:
            self.emit(NextTokens(self.run.number, ask.step, (), tuple(forced), ask.ban))
        self.run.forced, self.run.banned = forced, frozenset(ask.ban)
        if here:
            self._resample()
        return len(forced)

    def _forced(self, ask: Branch) -> list[int]:
        if NO_ID in ask.token_ids:
            raise UserError("the server did not name this token, so it cannot be asked for: take another one")
        return [*ask.token_ids, *(self.server.encode_continuation(ask.text) if ask.text else ())]

    def _fork(self, parent: ServerRun, step: int) -> None:
        if why := self.server.can_go_back:
            raise UserError(f"nothing can be written from here, since {why}")
        if (unknown := parent.unknown_token(step)) is not None and self.server.takes_ids:
            raise UserError(
                f"the server did not name token {unknown + 1}, so nothing behind it can be sent: go before it"
            )
        self._close_stream()
        number = max(self.runs) + 1
        started = replace(
            parent.started, run=number, parent=parent.number, shared=step, knobs=self.knobs, vectors=self.vectors,
            how="sent again", n_given=min(parent.started.n_given, step),
        )  # fmt: skip
        maker = StepMaker(self.card, self.names, len(started.prompt_tokens))
        run = ServerRun(
            started, parent.messages, self.knobs, maker, replayed(maker, parent.steps[:step]),
            changes=changed(parent.changes, step, self.vectors),
        )  # fmt: skip
        self.emit(started)
        self._enter(run)

    def go(self, number: int, why: str = "sent again when it goes on") -> None:
        """To another run, which stands where it was left; why: what is said of its rest. Raises UserError."""
        run = self.run_of(number)
        if run.deleted:
            raise UserError(f"run {number} was deleted: bring it back first")
        self._close_stream()
        self.knobs = run.knobs
        self._take_vectors(run.vectors)
        self.emit(Switched(number))
        self._enter(run)
        if run.ended is None:
            self.emit(Paused(number, why))

    def label(self, ask: Label) -> None:
        """Name it, star it, delete it, or bring it back. Raises UserError."""
        run = self.run_of(ask.run)
        if ask.deleted and run is self.run:
            raise UserError(f"run {ask.run} is the one that you are in: go to another one before it is deleted")
        run.name = run.name if ask.name is None else ask.name
        run.starred = run.starred if ask.starred is None else ask.starred
        run.deleted = run.deleted if ask.deleted is None else ask.deleted
        self.emit(Labelled(run.number, run.name, run.starred, run.deleted))

    def stop(self, reason: str = STOPPED) -> None:
        """End the run, if there is one."""
        if self.active:
            self._end(reason)

    def reopen(self) -> bool:
        """Go on with the present run, where a person had stopped it. Returns whether that was so."""
        if self.run is None or self.run.ended != STOPPED:
            return False
        self.run.ended = None
        return True

    def run_of(self, number: int) -> ServerRun:
        """Raises UserError for one that is not there."""
        if number not in self.runs:
            raise UserError(f"there is no run {number}: there are {len(self.runs)} of them, choose one of those")
        return self.runs[number]

    def _enter(self, run: ServerRun) -> None:
        self.runs[run.number] = self.run = run
        self.proposed = None
        written = "".join(step.text for step in run.steps)[-TEXT_TAIL_CHARS - 1 :]
        self.breakpoints.begin(run.number, len(run.steps), written)

    # --- Settings ----------------------------------------------------------------------------------------------

    def set_knobs(self, knobs: Knobs) -> None:
        """Acts from the next token on. Raises UserError."""
        check(knobs, self.card.vocab or 2**31)
        self.knobs = knobs
        if self.run is not None:
            self.emit(SettingsPending(self.run.number, knobs, self.vectors))
        self._resample()

    def set_vector(self, vector: Vector, rebuild: bool = False) -> None:
        """Acts from the next token on, or with `rebuild` on the whole text. Raises UserError, and then nothing was
        sent."""
        assert self.inside is not None
        if self.run is not None and self.run.given and vector.on:
            raise UserError("a text is read here without vectors: wait until it is read, or begin another one")
        is_new = self.inside.steering.set(vector)
        self.vectors = self.inside.steering.vectors
        if is_new:
            self._tell_of_vector(self.vectors[-1])
        if self.run is not None:
            self._rebuild = self._rebuild or rebuild
            self.emit(SettingsPending(self.run.number, self.knobs, self.vectors))
            self._resample()

    def _tell_of_vector(self, read: Vector) -> None:
        """One that was read from its file. Where a text is being written it acts from the next token on."""
        run = self.run
        applied = self.vectors if run is None else (*run.vectors, replace(read, on=False))
        if run is not None:
            run.changes[-1] = (run.changes[-1][0], applied)
        self.emit(VectorsChanged(run.number if run else 0, len(run.steps) if run else 0, applied))

    def _take_vectors(self, vectors: tuple[Vector, ...]) -> None:
        """These are set again; others are off."""
        if self.inside is not None:
            self.inside.steering.take(vectors)
            self.vectors = self.inside.steering.vectors

    def recall(self, knobs: Knobs, vectors: tuple[Vector, ...]) -> None:
        """These were set and had not acted yet."""
        assert self.run is not None
        self.knobs = knobs
        self._take_vectors(vectors)
        self.emit(SettingsPending(self.run.number, knobs, self.vectors))

    # --- Writing -----------------------------------------------------------------------------------------------

    def advance(self) -> Event | None:
        """One token, or what stops it before; None where nothing came yet, and at the end. Emits it either way."""
        assert self.run is not None
        run = self.run
        if self.proposed is None:
            found = self._next(run)
            if not isinstance(found, Step):
                return found
            self.proposed = found
            if stop := self.breakpoints.before(found):
                self.emit(Proposed(found))
                self.emit(stop)
                return stop
        step = self.proposed
        self.proposed = None
        if run.forced:
            run.forced.pop(0)
        run.write(step)
        self.breakpoints.written(step)
        self.emit(step)
        if run.is_read:
            self._close_stream()
            self.emit(paused := Paused(run.number, TEXT_READ))
            return paused
        if not run.n_left:
            self._end("token limit")
        return step

    def look_ahead(self) -> None:
        """Hold the next token up, where the server has told it already."""
        run, may = self.run, self.active and self.proposed is None and self._stream is not None
        if may and run is not None and not run.given:  # nobody chooses what stands in a text
            found = self._next(run)
            if isinstance(found, Step):
                self.proposed = found
                self.emit(Proposed(found))

    def rest(self) -> None:
        """Nothing is written for a while. What can be asked for again is no longer asked for."""
        if not self.server.can_go_back:
            self._close_stream()

    def _resample(self) -> None:
        """What comes next is asked for once more, under what is set now."""
        held = self.proposed is not None
        if self.run is not None and self.run.given:
            return
        if self.server.can_go_back and not (self.run and (self.run.forced or self.run.banned)):
            return  # the stream that is open is the only one there will be: it goes on under its own knobs
        self._close_stream()
        self.proposed = None
        if held and self.run is not None and self.active:
            limit = time.monotonic() + self.server.spec.timeout
            while (found := self._next(self.run)) is None and self.active and time.monotonic() < limit:
                pass
            if isinstance(found, Step):
                self.proposed = found
                self.emit(Proposed(found))

    def _next(self, run: ServerRun) -> Step | Event | None:
        self._apply(run)
        if self._stream is None and run.steps and (why := self.server.can_go_back):
            return self._rest(run, f"this text cannot be gone on with, since {why}")
        if self._stream is None:
            self._ask(run)
        assert self._stream is not None
        match self._stream.next(PATIENCE_S):
            case Arrival() as arrival:
                return self._step_of(run, arrival)
            case StreamEnd() as end:
                return self._ended(run, end)
        return None

    def _apply(self, run: ServerRun) -> None:
        """What was set is what the next token is asked for under."""
        if run.knobs != self.knobs:
            run.knobs = self.knobs
            self.emit(KnobsChanged(run.number, len(run.steps), self.knobs))
        if run.vectors != self.vectors or self._rebuild:
            run.changes = [(0, self.vectors)] if self._rebuild else changed(run.changes, len(run.steps), self.vectors)
            self.emit(VectorsChanged(run.number, len(run.steps), self.vectors, self._rebuild))
            self._rebuild = False

    def _ask(self, run: ServerRun) -> None:
        """For one token where the next one is forced, drawn here or some are banned, else for all that may come. Of a
        text that is there, for what it says of it."""
        self._asked_at = time.monotonic()
        if run.given:
            self._stream = TextStream(self.server, self.names, run.context().ids, run.given)
            return
        draws_here = self.told_steps.own_draw is not None
        alone = draws_here or bool(run.forced or run.banned)
        knobs = Knobs(temperature=0.0) if draws_here else replace(run.knobs, seed=run.knobs.seed + len(run.steps))
        banned = () if run.forced or draws_here else run.banned
        n_tokens, n_logprobs = 1 if alone else run.n_left, self.server.n_logprobs
        asked = Asked(knobs, n_tokens, n_logprobs, tuple(banned))
        self._stream = stream_of(self.server, self.inside, run, len(run.steps), asked, run.changes)

    def _step_of(self, run: ServerRun, arrival: Arrival) -> Step:
        if not run.steps or (run.given and len(run.steps) % TOLD_EVERY == 0):
            n = len(run.started.prompt_tokens) + len(run.steps)
            self.emit(Prefilled(run.number, n, n + len(run.given), arrival.at - self._asked_at))
        seconds, self._asked_at = max(arrival.at - self._asked_at, 0.0), arrival.at
        step, is_alone = self.told_steps.step(run, arrival, seconds)
        if is_alone:
            self._close_stream()
        return step

    def _ended(self, run: ServerRun, end: StreamEnd) -> Event | None:
        """A text that ended, or a server that broke off: what is written can be gone on with then."""
        counts = self._stream.counts if self._stream else None
        if end.error:
            self._close_stream()
            return self._rest(run, end.error)
        if counts and counts.unknown:
            said = f"the server told nothing of {counts.unknown} of {counts.tokens} tokens, which are unknown here"
            self.emit(Refused(said, notice=True))
        self._end(ENDS.get(end.finish, f"the server ended it: {end.finish}"))
        return None

    def _rest(self, run: ServerRun, why: str) -> Paused:
        self.emit(Refused(why))
        self.emit(paused := Paused(run.number, why))
        return paused

    def _end(self, reason: str) -> None:
        assert self.run is not None
        if self._stream is not None and (trouble := self._stream.trouble):
            self.emit(Refused(trouble, notice=True))
        self._close_stream()
        self.proposed = None
        self.run.ended = reason
        self.emit(Ended(self.run.number, reason))

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
