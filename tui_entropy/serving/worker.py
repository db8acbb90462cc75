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
from typing import Any

from msgspec.structs import replace

from tui_entropy.core.crash_report import write_report
from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Command, Load, Quit, SetBreakpoints, SetVector, SetWatches
from tui_entropy.records.events import Failed, Progress, Refused, Standing
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.source import Audience, OwnDraw, Source, VectorFiles, ability, inability
from tui_entropy.serving.broadcast import Broadcaster
from tui_entropy.transport import discovery

NICENESS = 10
"""The screen must answer a key while the model computes."""
MEMORY_REPORT_S = 1.0
TIDY_AFTER_S = 5.0


class Worker:
    """Has a source do what whoever is in control commands. Everything happens on one thread: commands are heard
    between two tokens."""

    def __init__(self, broadcaster: Broadcaster, make: Callable[[Audience, Load], Source]) -> None:
        self.broadcaster = broadcaster
        self.source: Source | None = None
        """Once it is up."""
        self._make = make
        self._model: ModelSpec | None = None
        self._failed = False
        self._open = ExitStack()
        self._gauged = 0.0
        self._tidied = 0.0
        broadcaster.describe = self._describe_status

    def serve(self) -> None:
        """Until Quit. A text that is not finished then is stopped."""
        with self._open:
            while self._serve_on():
                pass

    def _serve_on(self) -> bool:
        for command in self.broadcaster.hear(wait=not self.writing):
            if isinstance(command, Quit):
                return False
            self.obey(command)
        if self.writing:
            self.advance()
        return True

    @property
    def writing(self) -> bool:
        return self.source is not None and self.source.state == "writing"

    def _describe_status(self, standing: Standing) -> Standing:
        source = self.source
        if source is None:
            state = "failed" if self._failed else "loading" if self._model else "starting"
            return replace(standing, model=self._model, state=state)
        return replace(standing, model=self._model, state=source.state, tokens=source.n_written)

    def obey(self, command: Command) -> None:
        """Have it done; what cannot be done is answered in a sentence."""
        self._contain(lambda: self._obey(command), question=isinstance(command, AskProbe))

    def _obey(self, command: Command) -> None:
        if isinstance(command, Load):
            self._load(command)
            return
        if self.source is None:
            raise UserError("no model is loaded yet: wait until it is ready")
        if not self.source.capabilities.can(needed := ability(command)):
            raise UserError(inability(needed, self.source.capabilities))
        self.source.handle(command)

    def _load(self, command: Load) -> None:
        """Bring the source up. Whatever goes wrong here is fatal: without it there is nothing to serve."""
        if self._model is not None:
            raise UserError("this engine was told already what to load: start another one for another model")
        self._model = command.model
        self.broadcaster.settle(command)
        try:
            source = self._make(self.broadcaster, command)
            self._open.callback(source.close)
            source.begin(command)
            self.source = source
            for vector in command.vectors:
                self.obey(SetVector(vector))
            ready = source.ready()
        except Exception as error:
            self.source, self._failed = None, True
            mistake = isinstance(error, UserError)
            said = (str(error), "") if mistake else (_sentence(error), traceback.format_exc())
            self.broadcaster.emit(Failed(*said, fatal=True))
            return
        gc.collect()
        gc.freeze()  # what is loaded now stays: a full collection would stop the loop for half a second
        self.broadcaster.open_probes = frozenset(ready.capabilities.open_probes)
        origin = Path(ready.recording) if ready.recording else None
        self.broadcaster.emit(
            replace(ready, trace=self.broadcaster.record(command.trace, origin), endpoint=command.endpoint)
        )
        self._gauge()
        wished = self.broadcaster.overtaking(command.write) or command.reopen
        for order in (SetWatches(command.watches), SetBreakpoints(command.breakpoints), wished):
            if order not in (None, SetWatches(()), SetBreakpoints(())):
                self.obey(order)

    def advance(self) -> None:
        """Have the next token written."""
        self._contain(self._advance)

    def _advance(self) -> None:
        assert self.source is not None
        event = self.source.advance()
        if event is None or time.monotonic() - self._gauged > MEMORY_REPORT_S:
            self._gauge()

    def _contain(self, act: Callable[[], None], question: bool = False) -> None:
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
            if self.source is not None:
                self.source.abandon()
            self.broadcaster.emit(Failed(_sentence(error), traceback.format_exc()))

    def _gauge(self) -> None:
        assert self.source is not None
        self._gauged = time.monotonic()
        if self._gauged - self._tidied > TIDY_AFTER_S:
            self._tidied = self._gauged
            tidy_heap()
        if (memory := self.source.memory()) is not None:
            self.broadcaster.emit(memory)


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


def source_of(audience: Audience, load: Load) -> Source:
    """What writes: a server that is asked, or the model on this machine. Whoever waits for that hears that its
    libraries are imported first, which takes seconds."""
    if load.model.server is not None and load.model.server.proxied:
        from tui_entropy.servers.proxied.source import ProxySource

        return ProxySource(audience)
    if load.model.server is not None:
        from tui_entropy.servers.server_source import ServerSource

        own = own_draw if load.model.server.sampler == "own" else None
        return ServerSource(audience, own, vector_files)
    audience.emit(Progress("importing torch and transformers"))
    from tui_entropy.engine.model_source import ModelSource

    return ModelSource(audience)


def vector_files() -> VectorFiles:
    """How vectors are read, whose libraries are imported when a server that is steered was found."""
    from tui_entropy.engine.steering import control_vector

    return control_vector


def own_draw(*distribution: Any, **how: Any) -> OwnDraw:
    """As of engine/decoding/own_draw.py, whose libraries are imported when the first token is drawn."""
    from tui_entropy.engine.decoding.own_draw import own_draw

    return own_draw(*distribution, **how)


def main(socket_path: Path, log_path: Path, source: Callable[[Audience, Load], Source] = source_of) -> None:
    """Serve a source on `socket_path` until told to end, or until nobody has been there for as long as was set.

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
        Worker(broadcaster, source).serve()
    finally:
        broadcaster.close()
    log_path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
