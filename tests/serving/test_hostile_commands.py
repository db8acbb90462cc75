"""Whoever is in control commands what nobody would: each command with extreme values, to a real model."""

from pathlib import Path

import hostile
import pytest
from hypothesis import HealthCheck, given, seed, settings
from small import saved
from watchers import Watcher

from tui_entropy.records.commands import Load, Stop, Write
from tui_entropy.records.events import Ended, Failed, Ready, Started
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.transport import discovery

AGAIN = Write("ABCDEFGHIJ", None, False, 40, Knobs(temperature=1.0, top_k=0, seed=1))


class Commanded:
    """A real engine with a tiny model, and the screen that is in control of it."""

    def __init__(self, folder: Path, program: list[str]) -> None:
        self.started = discovery.start(program)
        self.screen = Watcher(self.started.socket)
        self.screen.send(Load(ModelSpec(str(saved(folder / "model"))), keep=600))
        self.screen.until(Ready, 120)

    def survives(self, messages: list[bytes]) -> None:
        for message in messages:
            self.screen.end.send_encoded(message)
        self.screen.heard.clear()
        self.screen.send(Stop(), AGAIN)
        self.screen.until(self.writes, 120)
        self.screen.send(Stop())
        self.screen.until(Ended)

    def writes(self) -> bool:
        """The text that was asked for last, whatever was asked before."""
        begun = [event for event in self.screen.heard if isinstance(event, Started) and event.prompt == AGAIN.prompt]
        assert not [event for event in self.screen.heard if isinstance(event, Failed)]
        return bool(begun) and any(isinstance(e, Step) and e.run == begun[-1].run for e in self.screen.heard)


@pytest.fixture(scope="module")
def commanded(tmp_path_factory, preloaded):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))
        found = Commanded(tmp_path_factory.mktemp("engine"), preloaded.words("engine"))
        yield found
        found.started.process.kill()
        found.started.process.wait()


orders = hostile.st.lists(hostile.commands("quit", "load"), max_size=5)


@seed(13)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=orders)
def test_no_command_ends_the_engine_or_what_it_writes_next(commanded, messages):
    commanded.survives(messages)


@pytest.mark.slow
@seed(14)
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=orders)
def test_no_command_ends_the_engine_or_what_it_writes_next_for_long(commanded, messages):
    commanded.survives(messages)
