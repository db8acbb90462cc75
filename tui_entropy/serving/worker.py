"""The engine process: commands in, events out. `python -m tui_entropy.serving.worker SOCKET LOGFILE`

It listens on a socket that only this user can open, and outlives the screens that come and go there. Its own
descriptors 1 and 2 lead to the log file, since a library that writes there would write over the screen.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tui_entropy.core.crash_report import write_report
from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import (
    Advance,
    Branch,
    Command,
    Continue,
    Go,
    Label,
    Load,
    Pause,
    Quit,
    SetBreakpoints,
    SetKnobs,
    SetShadow,
    SetVector,
    SetWatches,
    Stop,
    Twin,
    Write,
)
from tui_entropy.records.events import Continued, Failed, Memory, Paused, Progress, Ready, Refused, Standing
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import AskProbe, CancelProbe, ProbeAnswer, ProbeInfo, ProbeProgress
from tui_entropy.records.step import Step
from tui_entropy.serving.broadcast import Broadcaster
from tui_entropy.transport import discovery

if TYPE_CHECKING:
    from tui_entropy.engine.session.session import Session

NICENESS = 10
"""The screen must answer a key while the model computes."""
MEMORY_REPORT_S = 1.0
PROGRESS_S = 0.1
"""From one word about how far a probe has come, and look for one that it is not wanted, to the next."""
TIDY_AFTER_S = 5.0


class Worker:
    """Obeys whoever is in control. Everything happens on one thread: commands are heard between two tokens."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self.broadcaster = broadcaster
        self.emit = broadcaster.emit
        self.session: Session | None = None
        self.budget: int | None = None
        """Tokens to write before pausing by itself; None for no end, 0 while paused."""
        self._model: ModelSpec | None = None
        self._failed = False
        self._open = ExitStack()
        self._gauged = 0.0
        self._tidied = 0.0
        broadcaster.describe = self._describe_status

    def serve(self) -> None:
        """Until Quit. A text that is not finished then is stopped."""
        with self._open:
            try:
                while self._serve_on():
                    pass
            finally:
                if self.session is not None:
                    self.session.stop()

    def _serve_on(self) -> bool:
        for command in self.broadcaster.hear(wait=not self._writing):
            if isinstance(command, Quit):
                return False
            question = isinstance(command, AskProbe)
            self._run_contained(lambda command=command: self.obey(command), question)  # type: ignore[misc]
        if self._writing:
            self._run_contained(self.advance)
        return True

    @property
    def _writing(self) -> bool:
        return self.session is not None and self.session.active and self.budget != 0

    def _describe_status(self, standing: Standing) -> Standing:
        session = self.session
        if session is None:
            state = "failed" if self._failed else "loading" if self._model else "starting"
            return replace(standing, model=self._model, state=state)
        state = (
            "writing"
            if self._writing
            else "paused"
            if session.active
            else "ended"
            if session.state.run_number
            else "ready"
        )
        return replace(standing, model=self._model, state=state, tokens=session.state.n_written)

    def obey(self, command: Command) -> None:
        """Raises UserError for what cannot be done."""
        if isinstance(command, Load):
            self.load(command)
            return
        session = self.session
        if session is None:
            raise UserError("no model is loaded yet: wait until it is ready")
        match command:
            case Write():
                session.begin(command)
                self.budget = None
            case SetKnobs():
                session.set_knobs(command.knobs)
            case SetVector():
                session.set_vector(command.vector, command.rebuild)
            case Branch():
                self._branch(session, command)
            case Go():
                session.state.run_of(command.run)
                if self._writing and command.run != session.state.run_number:
                    self.emit(Paused(session.state.run_number, f"run {command.run} is looked at"))
                self.budget = 0
                session.go(command.run)
            case Label():
                session.branches.label(command)
            case SetShadow():
                session.set_shadow(command.lane)
            case Twin():
                self._twin(session, command)
            case AskProbe():
                self._probe(session, command)
            case CancelProbe():
                pass  # what could be cancelled heard of it while it was computed
            case Stop():
                session.stop()
            case Pause() if self._writing:
                self._pause(command.reason)
            case Continue() | Advance() if session.active:
                place = command.until if isinstance(command, Advance) else ""
                session.state.breakpoints.run_to(place)
                self.budget = command.tokens if isinstance(command, Advance) and not place else None
                self.emit(Continued(session.state.run_number))
            case SetBreakpoints():
                session.set_breakpoints(command.breakpoints)
            case SetWatches():
                session.set_watches(command.texts)

    def _branch(self, session: Session, command: Branch) -> None:
        run = session.state.run_number
        n_forced = session.branch(command)
        session.state.breakpoints.run_to()
        if command.pause and not n_forced:
            if self._writing or session.state.run_number != run:
                session.read_all()
                self._pause("before a branch")
            return
        self.budget = n_forced if command.pause else None
        if session.state.run_number == run:
            self.emit(Continued(run))

    def _twin(self, session: Session, command: Twin) -> None:
        run = session.state.run_number
        session.begin_twin(command)
        session.state.breakpoints.run_to()
        self.budget = None
        if session.state.run_number == run:
            self.emit(Continued(run))

    def _probe(self, session: Session, ask: AskProbe) -> None:
        from tui_entropy.engine.probes.answer import answer
        from tui_entropy.engine.probes.probe import ProbeCancelled

        spoken = time.monotonic()

        def progress(done: float, total: float) -> None:
            nonlocal spoken
            if time.monotonic() - spoken < PROGRESS_S:
                return
            spoken = time.monotonic()
            self.broadcaster.answer(ProbeProgress(ask.name, ask.run, ask.position, done, total))
            if self.broadcaster.hears_cancel():
                raise ProbeCancelled

        try:
            found = answer(session, ask, progress)
        except ProbeCancelled:
            found = ProbeAnswer(ask.name, ask.run, ask.position, ask.options, unavailable="given up", record=False)
        (self.emit if found.record else self.broadcaster.answer)(found)

    def load(self, command: Load) -> None:
        """Bring a model up. Whatever goes wrong here is fatal: without a model there is nothing to serve."""
        if self._model is not None:
            raise UserError("this engine was told already what to load: start another one for another model")
        self._model = command.model
        self.broadcaster.settle(command)
        try:
            self.session = self.bring_up(command)
            for vector in command.vectors:
                self._run_contained(lambda vector=vector: self.obey(SetVector(vector)))  # type: ignore[misc]
        except Exception as error:
            self._failed = True
            mistake = isinstance(error, UserError)
            said = (str(error), "") if mistake else (_sentence(error), traceback.format_exc())
            self.emit(Failed(*said, fatal=True))
            return
        gc.collect()
        gc.freeze()  # what is loaded now stays: a full collection would stop the loop for half a second
        trace = self.broadcaster.record(command.trace)
        self.emit(
            Ready(
                self.session.state.loaded.card,
                self.session.state.vectors,
                trace,
                self.session.branches.rewinder.rewinds,
                self.probes(),
            )
        )
        self._gauge()
        wished = self.broadcaster.overtaking(command.write)
        for order in (SetWatches(command.watches), SetBreakpoints(command.breakpoints), wished):
            if order not in (None, SetWatches(()), SetBreakpoints(())):
                self._run_contained(lambda order=order: self.obey(order))  # type: ignore[misc]

    def probes(self) -> tuple[ProbeInfo, ...]:
        """Those that can be asked here."""
        from tui_entropy.engine.probes.registry import PROBES, info

        self.broadcaster.open_probes = frozenset(probe.name for probe in PROBES if probe.is_light)
        return tuple(map(info, PROBES))

    def bring_up(self, command: Load) -> Session:
        self.emit(Progress("importing torch and transformers"))
        from tui_entropy.engine.decoding.instruments import NO_GRAPH, instruments
        from tui_entropy.engine.loading.loader import load
        from tui_entropy.engine.session.session import Session

        loaded = load(command.model, self.emit)
        probes = self._open.enter_context(instruments(loaded))
        if probes.no_graph_reason:
            self.emit(Refused(NO_GRAPH.format(probes.no_graph_reason), notice=True))
        return Session(loaded, probes, self.emit, command.kept_cache)

    def advance(self) -> None:
        assert self.session is not None
        event = self.session.advance()
        if isinstance(event, Paused):
            self.budget = 0
        if isinstance(event, Step) and self.budget is not None:
            self.budget -= 1
            if self.budget == 0 and self.session.active:
                self._pause("after a step")
        if event is None or time.monotonic() - self._gauged > MEMORY_REPORT_S:
            self._gauge()

    def _pause(self, reason: str) -> None:
        assert self.session is not None
        self.budget = 0
        self.emit(Paused(self.session.state.run_number, reason))
        self.session.look_ahead()

    def _run_contained(self, act: Callable[[], None], question: bool = False) -> None:
        """A mistake is answered in a sentence; a failure ends the run but neither the process nor the screen. One in
        the answer to a question, which changes nothing, does not even end the run."""
        try:
            act()
        except UserError as mistake:
            self.broadcaster.answer(Refused(str(mistake)))
        except Exception as error:
            traceback.print_exc()
            if question:
                self.broadcaster.answer(Refused(_sentence(error)))
                return
            if self.session is not None:
                self.session.abandon()
            self.emit(Failed(_sentence(error), traceback.format_exc()))

    def _gauge(self) -> None:
        self._gauged = time.monotonic()
        if self._gauged - self._tidied > TIDY_AFTER_S:
            self._tidied = self._gauged
            tidy_heap()
        self.emit(self.memory())

    def memory(self) -> Memory:
        import psutil
        import torch

        assert self.session is not None
        on_cuda = self.session.state.loaded.model.device.type == "cuda"
        return Memory(
            resident=psutil.Process().memory_info().rss,
            device=torch.cuda.memory_allocated() if on_cuda else None,
            cache=self.session.cache_bytes,
            kept=self.session.branches.rewinder.prefix_cache.bytes,
            bound=self.session.branches.rewinder.prefix_cache.bound,
            step=self.session.way,
        )


def tidy_heap() -> None:
    """Give free pages back to the system, where its allocator can: the work space of a step grows with the text, and
    what was large enough for one step is a hole for the next. Takes about a millisecond."""
    try:
        trim = ctypes.CDLL(None).malloc_trim  # of glibc
    except (AttributeError, OSError, TypeError):
        return
    trim(0)


def _sentence(error: Exception) -> str:
    if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        return "the engine ran out of memory: use a shorter prompt, a smaller model or --dtype bfloat16"
    return write_report(error, "the engine")


def main(socket_path: Path, log_path: Path, worker: Callable[[Broadcaster], Worker] = Worker) -> None:
    """Serve on `socket_path` until told to end, or until nobody has been there for as long as was set.

    What is said on descriptors 1 and 2 goes to `log_path`, which is kept only when this fails.
    """
    # Waiting OpenMP threads spin by default, which starves a machine whose cores are busy; read once, by torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log = discovery.open_log(log_path)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.nice(NICENESS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes is no reason to end
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        broadcaster = Broadcaster(socket_path, discovery.order())
    except UserError as mistake:
        sys.exit(str(mistake))
    try:
        worker(broadcaster).serve()
    finally:
        broadcaster.close()
    log_path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
