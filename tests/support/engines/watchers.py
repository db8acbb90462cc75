"""Screens that only listen, and scripted engines for them to watch."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import fake_engine
from places import FAKE_ENGINE

from tui_entropy.records.commands import Command, Follow, Load, Write
from tui_entropy.records.events import Event, Standing
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.transport import connection, discovery

FAKE = (sys.executable, str(FAKE_ENGINE), "--layers", "2", "--heads", "2")
LOAD = Load(ModelSpec("toy"), keep=60)


def wanted(tokens: int = 100_000, **knobs: float) -> Write:
    return Write("a b c", None, False, tokens, Knobs(n_candidates=5, **knobs))


class Watcher:
    """A screen's end, which hangs up when nobody has it any more. follow: the last event that it knows; None to
    follow nothing."""

    def __init__(self, socket: Path, follow: int | None = 0, guest: bool = False) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                self.end = connection.connect(socket)
                break
            except OSError:
                assert time.monotonic() < deadline, "the engine never listened"
                time.sleep(0.005)
        self.heard: list[Event] = []
        self.log = SessionView()
        if follow is not None:
            self.send(Follow(follow, guest))

    def send(self, *commands: Command) -> None:
        for command in commands:
            self.end.send(command)

    def listen(self, seconds: float = 0.0) -> list[Event]:
        """What has come, waiting so long for the first of it."""
        new = self.end.receive(seconds)
        for event in new:
            self.log.append(event)
        self.heard += new
        return new

    def until(self, what: type | Callable[[], object], seconds: float = 20.0):
        """Listen until an event of a kind comes, or something holds. The event."""
        deadline = time.monotonic() + seconds
        found = None
        while not (found if isinstance(what, type) else what()):
            assert time.monotonic() < deadline, self.heard[-3:]
            new = self.listen(0.02)
            found = isinstance(what, type) and next((event for event in new if isinstance(event, what)), None)
        return found

    @property
    def standing(self) -> Standing:
        """The last that was heard of it."""
        self.until(lambda: any(isinstance(event, Standing) for event in self.heard))
        return next(event for event in reversed(self.heard) if isinstance(event, Standing))

    @property
    def steps(self) -> list[Step]:
        return [event for event in self.heard if isinstance(event, Step)]

    def close(self) -> None:
        self.end.close()

    def __del__(self) -> None:
        if hasattr(self, "end"):
            self.close()


def started(*options: str) -> discovery.Started:
    return discovery.start([*FAKE, *options])


def undisturbed(n: int) -> list[str]:
    return [fake_engine.step(i, 3, 2, 2, 5).text for i in range(n)]


def left(socket: Path, screen: Watcher) -> None:
    """Close a screen, and wait until its engine has noticed."""
    screen.close()
    for _ in range(200):
        if Watcher(socket, None).standing.screens == 0:
            return
        time.sleep(0.01)
    raise AssertionError("the engine did not notice")
