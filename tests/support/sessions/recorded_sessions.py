"""Sessions of small models that are recorded, left, and gone on with from their recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tui_entropy.engine.reopening.recorded_session import RecordedSession
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.steering.control_vector import ControlVector, save_safetensors
from tui_entropy.records.commands import Branch, Reopen, Write
from tui_entropy.records.events import Event, Ready
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder

PLENTY = 1 << 24
PROMPT = "ABCDEFGHIJ"
DRAWN = Knobs(temperature=1.0, top_k=0, top_p=1.0, seed=3)


def vector_file(folder: Path, seed: int = 5, name: str = "push") -> Vector:
    """A vector of a file, switched on."""
    noise = torch.Generator().manual_seed(seed)
    made = ControlVector(name, {2: torch.randn(32, generator=noise).numpy() * 2})
    path = folder / f"{name}.safetensors"
    save_safetensors(made, path)
    return Vector(name, str(path), strength=1.0, on=True)


class RecordedTeller:
    """A session that is recorded, with all that it told. With an `origin` it goes on with that recording."""

    def __init__(self, loaded, probes, path: Path, origin: Path | None = None, ask: Reopen | None = None) -> None:
        self.loaded, self.path = loaded, path
        self.log, self.events = SessionView(), list[Event]()
        self.session = Session(loaded, probes, self.take, PLENTY)
        self.recorder = Recorder(path, origin=origin)
        self.reopened = None
        if origin is None:
            self.take(Ready(loaded.card, self.session.state.vectors))
            return
        self.log = Trace.open(origin).log()
        self.reopened = RecordedSession(self.session, origin)
        self.take(Ready(loaded.card, self.session.state.vectors, recording=str(origin)))
        self.reopened.enter(ask or Reopen(str(origin)))

    def take(self, event: Event) -> None:
        self.log.append(event)
        self.events.append(event)
        self.recorder.take(event)

    def begin(self, n=400, knobs=DRAWN, prompt=PROMPT, **what) -> None:
        self.session.begin(Write(prompt, None, False, n, knobs, **what))

    def write(self, n: int) -> list[int]:
        """n tokens more, as far as it goes; their ids."""
        before = len(self.log.steps)
        while self.session.active and len(self.log.steps) < before + n:
            self.session.advance()
        return list(self.log.steps.ids)[before:]

    def branch(self, step: int, run: int | None = None, **what) -> int:
        self.session.branch(Branch(run or self.session.state.run_number, step, **what))
        return self.session.state.run_number

    def close(self, how: str = "stopped") -> None:
        """Left by a person, or as one that was killed leaves it."""
        if how == "stopped":
            self.session.stop()
        self.recorder.close()


Act = Callable[[RecordedTeller], object]


def unbroken_and_reopened(loaded, probes, folder: Path, before: Act, after: Act, how: str = "stopped"):
    """The session that does both, and the one that does the second from the recording of the first."""
    whole = RecordedTeller(loaded, probes, folder / "whole.tui")
    before(whole)
    n = {number: len(run.steps) for number, run in whole.log.runs.items()}
    after(whole)
    whole.close("killed")
    half = RecordedTeller(loaded, probes, folder / "half.tui")
    before(half)
    assert n == {number: len(run.steps) for number, run in half.log.runs.items()}
    half.close(how)
    again = RecordedTeller(loaded, probes, folder / "again.tui", half.path)
    after(again)
    again.close("killed")
    return whole, again
