"""Leaving an engine and coming back to it, on the screen and in a terminal; and two screens on one engine."""

import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from inspectors import screen_text, settled, until
from terminal import Terminal
from watchers import FAKE, LOAD, Watcher, started, wanted

from tui_entropy.core import paths
from tui_entropy.records.commands import Pause
from tui_entropy.records.events import Ended, Proposed, Ready
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.step import Step
from tui_entropy.transport import discovery
from tui_entropy.ui.app.app import InspectorApp

SIZE = (120, 36)


@pytest.fixture
def engine():
    """A scripted engine that has loaded and writes; nobody watches it. Its socket."""
    running = []

    def make(tokens=100_000, rate=200, load=LOAD) -> Path:
        running.append(started("--rate", str(rate)))
        first = Watcher(running[-1].socket)
        first.send(load)
        first.until(Ready)
        first.send(wanted(tokens, temperature=0.9))
        first.until(Step)
        first.close()
        return running[-1].socket

    yield make
    for each in running:
        each.process.kill()
        each.process.wait()


def attached(socket: Path, **options) -> InspectorApp:
    return InspectorApp(ModelSpec("toy"), engine_command=FAKE, attach=socket, **options)


@pytest.mark.parametrize("forwarded", [False, True], ids=["from the record", "over the link"])
async def test_the_screen_is_as_if_it_had_been_there_all_along(engine, forwarded):
    socket = engine(tokens=400, rate=400)
    time.sleep(0.3)
    app = attached(socket, forwarded=forwarded)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.frame.log.state == "ended")
        await settled(app, pilot)
        log = app.frame.log
        assert [step.index for step in log.steps] == list(range(400)) and log.started.prompt == "a b c"
        assert app.frame.knobs.temperature == 0.9 and app.frame.layer == 2 and app.frame.vectors == log.vectors
        assert "step 400 of 400" in screen_text(app)
        await pilot.press("G")  # the prompt is known too
        await until(pilot, lambda: app.frame.log.run_number == 2 and app.frame.log.steps)
        await pilot.press("q")


async def test_two_screens_one_in_control_which_a_key_passes_on(engine):
    first, second = (attached(socket := engine(rate=40)), attached(socket))
    async with first.run_test(size=SIZE) as one:
        await until(one, lambda: first.frame.log.state == "writing" and first.link.in_control)
        async with second.run_test(size=SIZE) as other:
            await until(other, lambda: second.frame.log.state == "writing" and second.link.standing.screens == 2)
            await until(other, lambda: "2 screens, only watching" in screen_text(second))
            assert "ctrl+g" in second.frame.notice
            await other.press("T")
            await until(other, lambda: "another screen is in control" in second.frame.notice)
            assert second.frame.knobs.temperature == 0.9

            await one.press("T")
            await until(other, lambda: second.frame.knobs.temperature == 1.0)
            await other.press("ctrl+g")
            await until(other, lambda: second.link.in_control)
            await until(one, lambda: "took control" in first.frame.notice and not first.link.in_control)
            await other.press("T", "1")
            await until(one, lambda: first.frame.knobs.temperature == 1.1 and first.frame.vectors[0].on)
            await other.press("ctrl+d")
        await until(one, lambda: first.link.in_control and "in control now" in first.frame.notice)
        await one.press("q")
    assert second.parting and not first.parting


async def test_who_only_watches_leaves_without_ending_the_engine(engine):
    socket = engine()
    in_control = Watcher(socket)
    in_control.until(Step)
    app = attached(socket)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.frame.log.state == "writing")
        await pilot.press("q")
    count = len(in_control.steps)
    in_control.until(lambda: len(in_control.steps) > count + 20)


async def test_an_engine_that_is_ended_elsewhere_is_told_of_and_another_can_be_started(engine):
    socket = engine()
    app = attached(socket)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.frame.log.state == "writing")
        pid = Watcher(socket, None).standing.pid
        os.kill(pid, signal.SIGTERM)
        await until(pilot, lambda: app.frame.log.state == "lost")
        assert "tui-entropy stop" in app.frame.log.note and app.frame.log.steps
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.frame.log.state == "ready")
        assert app.frame.log.card.name == "toy"
        await pilot.press("q")


async def test_where_no_engine_listens_a_sentence_says_so(tmp_path):
    app = attached(tmp_path / "none.sock")
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.frame.log.state == "lost")
        assert "attach --list" in app.frame.log.note


async def test_an_engine_that_would_not_stay_is_not_left_by_mistake(engine):
    socket = engine(load=LOAD)
    app = InspectorApp(ModelSpec("toy"), wanted(), engine_command=FAKE)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.frame.log.state == "writing")
        await pilot.press("ctrl+d")
        await until(pilot, lambda: "--keep" in app.frame.notice)
        await pilot.press("q")
    assert not app.parting and [each.socket for each in discovery.running()] == [socket]


# --- In a terminal ---------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The program, with an engine that stays."""
    monkeypatch.setenv("TUI_ENTROPY_ENGINE", shlex.join([*FAKE, "--rate", "100"]))
    monkeypatch.setenv("TUI_ENTROPY_KEEP", "1m")
    yield lambda *arguments: Terminal([sys.executable, "-m", "tui_entropy", *arguments], *SIZE)
    for each in discovery.running():
        os.kill(each.standing.pid, signal.SIGKILL)


@pytest.mark.pty
@pytest.mark.parametrize("end", ["ctrl+d", signal.SIGHUP, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_however_the_screen_goes_the_engine_writes_on_and_attach_brings_everything_back(command, end):
    with command("run", "--model", "toy", "--max-tokens", "5000") as terminal:
        terminal.wait_for(re.compile(r"step [3-9]\d of"))
        if end == "ctrl+d":
            terminal.press(end)
        else:
            os.kill(terminal.process.pid, end)
        terminal.wait()
        said = b"".join(chunk.data for chunk in terminal.chunks)
    (left,) = discovery.running()
    assert left.standing.state == "writing"
    assert (f"tui-entropy attach {left.id}".encode() in said) == (end != signal.SIGKILL)
    with command("attach") as terminal:
        terminal.wait_for(re.compile(r"step [2-9]\d\d of"))
        terminal.press("home")
        terminal.wait_for("step 1 of")
        terminal.press("q")
        assert terminal.wait() == 0 and terminal.left_changed() == set()
    assert discovery.running() == []


async def test_texts_that_were_left_are_read_from_the_record_again(tmp_path):
    app = InspectorApp(ModelSpec("toy"), wanted(30), trace=tmp_path / "a.tui", engine_command=FAKE)
    async with app.run_test(size=SIZE) as pilot:
        for run in range(1, 4):
            await until(pilot, lambda run=run: app.frame.log.run_number == run and app.frame.log.state == "ended")
            if run < 3:
                await pilot.press("G")
        runs = app.frame.log.runs
        assert [type(runs[run].steps).__name__ for run in (1, 2, 3)] == ["LazySteps"] * 2 + ["StepStore"]
        assert [step.index for step in runs[1].steps] == list(range(30)) and runs[
            1
        ].steps.texts == app.frame.log.steps.texts
        await pilot.press("q")
    assert [file.name for file in tmp_path.glob("a.tui*")] == ["a.tui"]


async def test_what_is_held_up_is_there_when_one_comes_back(engine):
    socket = engine(rate=40)
    first = Watcher(socket)
    first.send(Pause())
    first.until(Proposed)
    app = attached(socket)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.frame.log.proposed is not None)
        assert app.frame.log.state == "paused" and app.frame.log.proposed.index == len(app.frame.log.steps)
        await pilot.press("ctrl+d")


@pytest.mark.pty
@pytest.mark.parametrize("end", [signal.SIGHUP, signal.SIGKILL], ids=str)
def test_a_prompt_is_not_lost_with_a_screen_that_goes_before_the_model_is_there(command, monkeypatch, end):
    monkeypatch.setenv("TUI_ENTROPY_ENGINE", shlex.join([*FAKE, "--rate", "100", "--load-seconds", "6"]))
    with command("run", "--model", "toy", "--prompt", "a lost one", "--max-tokens", "30") as terminal:
        terminal.wait_for("loading weights")
        os.kill(terminal.process.pid, end)
        terminal.wait()
    (socket,) = paths.sockets().glob("*.sock")
    watcher = Watcher(socket)
    watcher.until(Ended, 60)
    assert watcher.log.started.prompt == "a lost one" and len(watcher.steps) == 30
