"""LiveSession: a session with its instruments open, the log of what it told, and the record of that."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import NO_GRAPH, open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.registry import PROBES, info
from tui_entropy.engine.reopening.recorded_session import RecordedSession
from tui_entropy.engine.session.run import TOKEN_LIMIT, Run
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Reopen, Write
from tui_entropy.records.events import Continued, Ended, Event, Paused, Ready, Refused, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.state.run_view import RunView
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder

CLOSED = "this Inspector is closed: enter it again with `with`, or make a new one"
_taken: weakref.WeakSet[object] = weakref.WeakSet()
"""Models that somebody's instruments hang in."""
_taking = threading.Lock()


class LiveSession:
    """What an Inspector has as long as it is open. Everything happens in the thread of whoever calls, one call at a
    time, and a call that is broken off leaves a session that can be used on."""

    def __init__(
        self,
        loaded: Loaded,
        trace: Path | None = None,
        reopen: Reopen | None = None,
        record_attention: str = "off",
        kept_cache: int = 0,
    ) -> None:
        """trace: a file to record in. reopen: a recording that is gone on with. Raises UserError for a model that is
        open already, and a recording that cannot be gone on with."""
        self.loaded = loaded
        self.began: dict[int, float] = {}
        """Run -> when it began, seconds since 1970."""
        self.fresh: set[int] = set()
        """Runs that nobody has gone through yet: the first loop over one of them writes it."""
        self.paused: dict[int, str] = {}
        """Run -> why writing rests, where something stopped it."""
        self.closed = False
        self._busy = threading.Lock()
        self._failure = ""
        self._begun = False
        self._set_aside: dict[int, tuple[Knobs, tuple[Vector, ...]]] = {}
        """What was set in runs that are not the present one, and may not have acted yet."""
        self._open = ExitStack()
        with self._open as opened:
            opened.enter_context(alone(loaded))
            origin = None if reopen is None else Path(reopen.path)
            self.log = SessionView() if origin is None else Trace.open(origin).log(reopen.run if reopen else None)
            self.recorder = Recorder(trace, self._complain, origin=origin)
            opened.callback(self.recorder.close)
            held = opened.enter_context(open_instruments(loaded, record=record_attention if trace else "off"))
            if held.no_graph_reason:
                _warn(NO_GRAPH.format(held.no_graph_reason))
            self.session = Session(loaded, held, self.tell, kept_cache)
            recorded = None if reopen is None else _agreed(self.session, reopen)
            vectors, probes = self.session.state.vectors, tuple(map(info, PROBES))
            self.tell(
                Ready(
                    loaded.card, vectors, self.recorder.name, probes=probes, recording=str(origin) if origin else ""
                )
            )
            if recorded is not None and reopen is not None:
                self._go_on_with(recorded, reopen)
            self._open = opened.pop_all()
        self._begun = True

    def _go_on_with(self, recorded: RecordedSession, reopen: Reopen) -> None:
        """The runs of a recording are there, and one of them is read again."""
        self.began |= {number: self.began.get(number, time.time()) for number in self.log.runs}
        recorded.enter(reopen)
        if not self.session.active:
            return
        number = self.session.state.run_number
        self.tell(Continued(number))
        with self.at_work():
            while self.session.reading:
                self.session.advance()
        self.paused[number] = recorded.how_read()
        self.tell(Paused(number, self.paused[number]))

    def close(self) -> None:
        """Write no more, and leave the model as it was found. What was written stays."""
        if not self.closed:
            self.closed = True
            with self._open:
                self.session.stop()

    def tell(self, event: Event) -> None:
        """Take in what happens: into the log and the record."""
        self.log.append(event)
        self.recorder.take(event)
        match event:
            case Started():
                self.began[event.run] = time.time()
                self.fresh.add(event.run)
            case Refused():
                _warn(event.sentence)
            case Ended(failed=True):
                self._failure = event.reason

    def _complain(self, sentence: str) -> None:
        """A record that cannot be begun is refused; where it breaks off later the text is written on without it."""
        if not self._begun:
            raise UserError(sentence)
        _warn(sentence)

    # --- One call at a time ------------------------------------------------------------------------------------

    @contextmanager
    def at_work(self) -> Iterator[Session]:
        """The session, for one call. Raises UserError where it is closed, and where another call is not over."""
        if self.closed:
            raise UserError(CLOSED)
        if not self._busy.acquire(blocking=False):
            raise UserError("this Inspector is at work, here or in another thread: ask again once it has answered")
        try:
            yield self.session
        except UserError:
            raise
        except BaseException:  # also ctrl-C: where it was broken off nobody knows
            self.session.abandon()
            raise
        finally:
            self._busy.release()

    # --- Runs --------------------------------------------------------------------------------------------------

    def view(self, number: int) -> RunView:
        return self.log.runs[number]

    def begin(self, write: Write) -> int:
        """A new run. Returns its number. Raises UserError."""
        with self.at_work() as session:
            self._put_aside()
            session.begin(write)
            return session.state.run_number

    def write_on(self, number: int) -> Paused | None:
        """One token more of a run, or several of a text that is there; nothing at its end, and before what stops it,
        which is returned. Raises UserError where the model failed."""
        with self.at_work() as session:
            run = self.come_to(number)
            n, stopped = len(self.view(number).steps), None
            try:
                while session.state.writer is not None and len(self.view(number).steps) == n and stopped is None:
                    event = session.advance()
                    stopped = event if isinstance(event, Paused) else None
            except UserError:
                session.abandon()
                raise
            if self._failure:
                failure, self._failure = self._failure, ""
                raise UserError(f"run {run.number} ended, as there was {failure}: the model cannot be trusted here")
            return stopped

    def go_on(self, number: int, n: int) -> None:
        """A run that somebody stopped, or that came to its limit, is written on. n: tokens that there is to be room
        for in the latter case."""
        with self.at_work() as session:
            run = session.state.run_of(number)
            if run.ended == TOKEN_LIMIT:
                run.make_room(n)
                if run.ended is None:
                    self._resume(run)
            elif run.ended is not None:
                self.come_to(number)
                if session.reopen():
                    self.tell(Continued(number))

    def _resume(self, run: Run) -> None:
        self._come_to(run)
        self.tell(Continued(run.number))

    def come_to(self, number: int) -> Run:
        """A run is the present one, under what was set in it last. For use at work."""
        state = self.session.state
        run = state.run_of(number)
        if state.run is not run or (state.writer is None and run.ended is None):
            self._come_to(run)
        return run

    def _come_to(self, run: Run) -> None:
        state = self.session.state
        self._put_aside()
        self.session.comparisons.stop()
        self.session.come_to(run)
        knobs, vectors = self._set_aside.pop(run.number, (state.knobs, state.vectors))
        if knobs != state.knobs:
            self.session.set_knobs(knobs)
        now = {vector.name: vector for vector in state.vectors}
        for vector in vectors:
            if now[vector.name] != vector:
                self.session.set_vector(vector)

    def _put_aside(self) -> None:
        state = self.session.state
        if state.run is not None:
            self._set_aside[state.run_number] = state.knobs, state.vectors

    @contextmanager
    def knobs_of_branch(self, knobs: Knobs) -> Iterator[None]:
        """A branch off the present run begins under these. In that run itself all stays as it is set. For use at
        work."""
        state = self.session.state
        parent, before = state.run_number, state.knobs
        self._put_aside()
        state.knobs = knobs
        try:
            yield
        finally:
            if state.run_number == parent:
                state.knobs = before

    def room(self, number: int) -> int:
        """Tokens that a run can still be written on."""
        return self.session.state.run_of(number).sequence.n_remaining

    def knobs(self, number: int) -> Knobs:
        """Of the next token of a run."""
        state = self.session.state
        if state.run_number == number:
            return state.knobs
        return self._set_aside[number][0] if number in self._set_aside else self.view(number).knobs


def _agreed(session: Session, ask: Reopen) -> RecordedSession:
    """Raises UserError where something differs and nobody agreed to it."""
    recorded = RecordedSession(session, Path(ask.path))
    if recorded.differences and not ask.despite:
        raise UserError(
            f"{ask.path} is not gone on with, since {', '.join(recorded.differences)}: despite=True goes on all the "
            "same"
        )
    return recorded


@contextmanager
def alone(loaded: Loaded) -> Iterator[None]:
    """Nobody else's instruments hang in a model: two of them would steer and measure each other's texts. Raises
    UserError."""
    with _taking:
        if loaded.model in _taken:
            raise UserError(
                f"another Inspector is open on this very {loaded.card.name}, and the two would disturb each other: "
                "close that one, or load the model once more by its name"
            )
        _taken.add(loaded.model)
    try:
        yield
    finally:
        _taken.discard(loaded.model)


def _warn(sentence: str) -> None:
    """A word that a person must know of; nothing is refused."""
    warnings.warn(sentence, stacklevel=4)
