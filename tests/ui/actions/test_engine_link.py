"""The engine's process as the screen sees it: reached, lost, replaced, and never left behind."""

import asyncio
import os
import signal
import sys

import psutil
import pytest
from places import FAKE_ENGINE

from tui_entropy.core import paths
from tui_entropy.records.commands import Load, SetKnobs, Write
from tui_entropy.records.events import Ready, Started
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.transport.async_client import EngineProcess

SCRIPT = str(FAKE_ENGINE)


def scripted(*options: str) -> list[str]:
    return [sys.executable, SCRIPT, "--rate", "200", "--layers", "2", "--heads", "2", *options]


class Screen:
    """Collects what an engine says."""

    def __init__(self, command: list[str]) -> None:
        self.heard: list[object] = []
        self.lost: list[str] = []
        self.engine = EngineProcess(command, self.heard.extend, self.lost.append)

    async def until(self, kind: type, number: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(isinstance(event, kind) for event in self.heard) < number:
                await asyncio.sleep(0.005)

    async def until_lost(self) -> str:
        async with asyncio.timeout(20):
            while not self.lost:
                await asyncio.sleep(0.005)
        return self.lost[-1]

    async def begin(self) -> None:
        self.engine.start()
        self.engine.send(Load(ModelSpec("toy")))
        await self.until(Ready)


@pytest.fixture
def screen():
    made = []

    def make(*options: str) -> Screen:
        made.append(Screen(scripted(*options)))
        return made[-1]

    yield make
    for each in made:
        each.engine.close()


WRITE = Write("a b c", None, False, 1000, Knobs())


async def test_what_is_sent_before_it_listens_arrives_in_order(screen):
    here = screen()
    here.engine.start()
    here.engine.send(Load(ModelSpec("toy")))
    here.engine.send(WRITE)
    await here.until(Step, 3)
    kinds = [type(event) for event in here.heard]
    assert kinds.index(Ready) < kinds.index(Started) < kinds.index(Step)


async def test_it_runs_apart_from_the_keyboard(screen):
    here = screen()
    await here.begin()
    assert os.getsid(here.engine.pid) == here.engine.pid


async def test_a_killed_engine_is_told_of_in_a_sentence(screen):
    here = screen()
    await here.begin()
    here.engine.send(WRITE)
    await here.until(Step)
    os.kill(here.engine.pid, signal.SIGKILL)
    assert "killed" in await here.until_lost()
    assert here.engine.pid is None
    here.engine.send(SetKnobs(Knobs()))  # said to nobody, and no error


async def test_an_engine_that_ends_before_it_listens_is_told_of_with_its_last_words(screen):
    here = screen("--die")
    here.engine.start()
    assert await here.until_lost() == "the engine ended with code 3: cannot find libmade_up.so"


async def test_garbage_on_the_link_ends_the_engine_that_sent_it(screen):
    here = screen("--garbage")
    here.engine.start()
    here.engine.send(Load(ModelSpec("toy")))
    pid = here.engine.pid
    assert "link" in await here.until_lost()
    assert not psutil.pid_exists(pid)


async def test_a_program_that_is_not_there_is_told_of():
    here = Screen(["/no/such/program"])
    here.engine.start()
    assert "could not be started" in await here.until_lost()


async def test_it_can_be_started_again(screen):
    here = screen()
    await here.begin()
    first = here.engine.pid
    await here.begin()
    assert here.engine.pid != first and not psutil.pid_exists(first)


async def test_a_prompt_larger_than_the_socket_takes_arrives(screen):
    here = screen()
    await here.begin()
    long = "word " * 300_000
    here.engine.send(Write(long, None, False, 10, Knobs()))
    await here.until(Started)
    begun = next(event for event in here.heard if isinstance(event, Started))
    assert begun.prompt == long


@pytest.mark.parametrize("options", [(), ("--load-seconds", "30")], ids=["writing", "loading"])
async def test_closing_leaves_no_process_no_socket_and_soon(screen, options):
    here = screen(*options)
    here.engine.start()
    here.engine.send(Load(ModelSpec("toy")))
    if not options:
        here.engine.send(WRITE)
        await here.until(Step)
    pid = here.engine.pid
    began = asyncio.get_running_loop().time()
    here.engine.close()
    assert asyncio.get_running_loop().time() - began < 3
    assert not psutil.pid_exists(pid)
    assert not list(paths.sockets().glob("*.sock"))


async def test_the_log_of_an_engine_that_ended_well_is_not_kept(screen):
    here = screen()
    await here.begin()
    log = here.engine.log
    assert log.exists()
    here.engine.close()
    assert not log.exists()
