"""The engine process: commands in, events out. `python -m tui_entropy.engine.worker SOCKET LOGFILE`

It listens on a socket that only this user can open, serves one screen, and ends when that screen is gone. Its own
descriptors 1 and 2 lead to the log file, since a library that writes there would write over the screen.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from tui_entropy.errors import UserError
from tui_entropy.link import EngineEnd, LinkClosed, accept, listen
from tui_entropy.recorder import Recorder
from tui_entropy.records import (
    Advance,
    AskAttention,
    Command,
    Continue,
    Continued,
    Event,
    Failed,
    Load,
    Memory,
    Pause,
    Paused,
    Progress,
    Quit,
    Ready,
    Refused,
    SetKnobs,
    SetVector,
    Step,
    Stop,
    Write,
)

if TYPE_CHECKING:
    from tui_entropy.engine.session import Session

NICENESS = 10
"""The screen must answer a key while the model computes."""
SLOW_SCREEN = 32 * 2**20
"""Bytes that may wait for a screen that does not read, before the model waits too."""
GAUGE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
"""For the screen to come; one that was killed before never will."""


class Worker:
    """Obeys one screen. Everything happens on one thread: commands are heard between two tokens."""

    def __init__(self, link: EngineEnd) -> None:
        self.link = link
        self.session: Session | None = None
        self.recorder = Recorder(None)
        self.budget: int | None = None
        """Tokens to write before pausing by itself; None for no end, 0 while paused."""
        self._open = ExitStack()
        self._gauged = 0.0

    def serve(self) -> None:
        """Until Quit, or until the screen hangs up (LinkClosed)."""
        with self._open:
            while True:
                may_write = self._writing and self.link.backlog < SLOW_SCREEN
                for command in self.link.receive(0 if may_write else None):
                    if isinstance(command, Quit):
                        return
                    self._contained(lambda command=command: self.obey(command))  # type: ignore[misc]
                if self._writing and self.link.backlog < SLOW_SCREEN:
                    self._contained(self.advance)

    @property
    def _writing(self) -> bool:
        return self.session is not None and self.session.active and self.budget != 0

    def tell(self, event: Event) -> None:
        """To the trace and to the screen."""
        self.recorder.take(event)
        self.link.send(event)

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
                session.set_vector(command.vector)
            case AskAttention():
                if rows := session.attention(command):
                    self.tell(rows)
            case Stop():
                session.stop()
            case Pause() if self._writing:
                self._pause("by you")
            case Continue() | Advance() if session.active:
                self.budget = command.tokens if isinstance(command, Advance) else None
                self.tell(Continued(session.run))

    def load(self, command: Load) -> None:
        """Bring a model up. Whatever goes wrong here is fatal: without a model there is nothing to serve."""
        try:
            self.tell(Progress("importing torch and transformers"))
            from tui_entropy.engine.decode import instruments
            from tui_entropy.engine.loading import load
            from tui_entropy.engine.session import Session

            loaded = load(command.model, self.tell)
            probes = self._open.enter_context(instruments(loaded))
            self.session = Session(loaded, probes, self.tell)
            for vector in command.vectors:
                self._contained(lambda vector=vector: self.obey(SetVector(vector)))  # type: ignore[misc]
        except UserError as mistake:
            self.tell(Failed(str(mistake), fatal=True))
            return
        except (LinkClosed, KeyboardInterrupt):
            raise
        except Exception as error:
            self.tell(Failed(_sentence(error), traceback.format_exc(), fatal=True))
            return
        gc.collect()
        gc.freeze()  # what is loaded now stays: a full collection would stop the loop for half a second
        self.recorder = self._recorder(command.trace)
        self.tell(Ready(loaded.card, self.session.vectors, self.recorder.name))
        self._gauge()

    def _recorder(self, path: str | None) -> Recorder:
        """A trace that cannot be written is told of, and the text goes on without it."""
        recorder = Recorder(Path(path) if path else None, lambda sentence: self.link.send(Refused(sentence)))
        return self._open.enter_context(closing(recorder))

    def advance(self) -> None:
        assert self.session is not None
        event = self.session.advance()
        if isinstance(event, Step) and self.budget is not None:
            self.budget -= 1
            if self.budget == 0 and self.session.active:
                self._pause("after a step")
        if event is None or time.monotonic() - self._gauged > GAUGE_SECONDS:
            self._gauge()

    def _pause(self, reason: str) -> None:
        assert self.session is not None
        self.budget = 0
        self.tell(Paused(self.session.run, reason))

    def _contained(self, act: Callable[[], None]) -> None:
        """A mistake is answered in a sentence; a failure ends the run but neither the process nor the screen."""
        try:
            act()
        except UserError as mistake:
            self.tell(Refused(str(mistake)))
        except LinkClosed:
            raise
        except Exception as error:
            traceback.print_exc()
            if self.session is not None:
                self.session.abandon()
            self.tell(Failed(_sentence(error), traceback.format_exc()))

    def _gauge(self) -> None:
        import psutil
        import torch

        assert self.session is not None
        self._gauged = time.monotonic()
        on_cuda = self.session.loaded.model.device.type == "cuda"
        self.tell(
            Memory(
                resident=psutil.Process().memory_info().rss,
                device=torch.cuda.memory_allocated() if on_cuda else None,
                cache=self.session.cache_bytes,
            )
        )


def _sentence(error: Exception) -> str:
    if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        return "the engine ran out of memory: use a shorter prompt, a smaller model or --dtype bfloat16"
    first = str(error).strip().split("\n", 1)[0]
    return f"the engine failed: {type(error).__name__}: {first}" if first else f"the engine failed: {error!r}"


def main(socket_path: Path, log_path: Path) -> None:
    """Serve one screen on `socket_path`; the socket file is removed as soon as that screen is there."""
    # Waiting OpenMP threads spin by default, which starves a machine whose cores are busy; read once, by torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.nice(NICENESS)
    server = listen(socket_path)
    try:
        link = accept(server, PATIENCE_SECONDS)
    finally:
        socket_path.unlink(missing_ok=True)
        server.close()
    try:
        Worker(link).serve()
    except LinkClosed:
        pass
    finally:
        link.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
