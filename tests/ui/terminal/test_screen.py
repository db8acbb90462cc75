"""The program in a pseudo-terminal, with a scripted engine: what partial repaints leave, and how it is left."""

import os
import re
import signal
import sys

import psutil
import pytest
from places import FAKE_ENGINE
from terminal import Terminal

pytestmark = pytest.mark.pty

ENGINE = f"{sys.executable} {FAKE_ENGINE} --rate 50"


@pytest.fixture
def inspector(tmp_path):
    def started(width: int, height: int) -> Terminal:
        folders = {name: str(tmp_path) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
        command = [sys.executable, "-m", "tui_entropy", "--model", "toy"]
        return Terminal(command, width, height, env={"TUI_ENTROPY_ENGINE": ENGINE, **folders})

    return started


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=str)
def test_repainting_what_changed_leaves_the_same_screen_as_painting_all_of_it(inspector, size):
    with inspector(*size) as terminal:
        terminal.wait_for(re.compile(r"step [3-9]\d"))
        terminal.press("left", "T", "1", "u", "left", "end")
        terminal.wait_for(re.compile(r"step 1\d\d"))
        terminal.press(" ")
        terminal.wait_for("paused")
        terminal.settle(quiet=2.0)  # heavy panes come later where the machine is busy
        before, received = terminal.looks, terminal.received
        terminal.press("ctrl+l")
        terminal.wait_for(lambda _: terminal.received > received + size[0] * size[1] / 2)
        terminal.settle()
        assert terminal.looks == before


@pytest.mark.parametrize("end", ["q", signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=str)
def test_however_it_ends_the_engine_goes_too_and_the_terminal_is_as_it_was(inspector, end):
    with inspector(80, 24) as terminal:
        terminal.wait_for("writing")
        (engine,) = psutil.Process(terminal.process.pid).children()
        if isinstance(end, str):
            terminal.press(end)
        else:
            os.kill(terminal.process.pid, end)
        terminal.wait()
        engine.wait(10)
        if end != signal.SIGKILL:
            assert terminal.left_changed() == set()
