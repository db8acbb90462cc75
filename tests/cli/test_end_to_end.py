"""The real command, the real default model, a real pseudo-terminal."""

import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest
from terminal import Terminal

pytestmark = [pytest.mark.pty, pytest.mark.real]

COMMAND = str(Path(sys.executable).parent / "tui-entropy")
PROMPT = "Tell me about the sea."
LOADING = 180.0
"""Seconds that a cold, shared machine may take to import torch and read the weights."""


@pytest.fixture
def inspector(tmp_path):
    """Writing already, with a memory of its own, so that a user's history is neither read nor written."""
    command = [COMMAND, "--prompt", PROMPT, "--seed", "7", "--max-tokens", "2000"]
    with Terminal(command, 120, 36, env={"XDG_STATE_HOME": str(tmp_path)}) as terminal:
        terminal.wait_for(lambda text: "writing" in text and n_tokens(text) > 0, LOADING)
        yield terminal


def n_tokens(text: str) -> int:
    """Of the context, as the status line counts them."""
    found = re.search(r"context (\d+)", text)
    return int(found[1]) if found else 0


def wait_for_tokens(terminal: Terminal, more: int) -> None:
    goal = n_tokens(terminal.text) + more
    terminal.wait_for(lambda text: n_tokens(text) >= goal, 60)


def engine_of(terminal: Terminal) -> psutil.Process:
    (engine,) = psutil.Process(terminal.process.pid).children()
    return engine


def test_watch_turn_a_knob_toggle_a_vector_look_back_and_quit(inspector):
    engine = engine_of(inspector)
    wait_for_tokens(inspector, 3)

    inspector.press("T")
    inspector.wait_for(re.compile(r"T 0\.7→\d"))  # the mark where it took effect
    inspector.press("1")
    inspector.wait_for(re.compile(r"\w+ on \+\d"))
    wait_for_tokens(inspector, 3)

    inspector.press("space")
    inspector.wait_for("paused")
    inspector.settle()
    newest = step_shown(inspector.text)
    inspector.press("left", "left")
    inspector.wait_for(lambda text: step_shown(text) == newest - 2)
    inspector.press("end")
    inspector.wait_for(lambda text: step_shown(text) == newest)

    inspector.press("q")
    assert inspector.wait() == 0
    assert inspector.left_changed() == set()
    assert not engine.is_running()


def step_shown(text: str) -> int:
    """The step under the cursor, as the title of the candidates tells it."""
    found = re.search(r"next token (?:\S )?· step (\d+)", text)
    assert found, text
    return int(found[1])


def test_the_screen_and_the_text_outlive_a_killed_engine_and_a_key_starts_it_again(inspector):
    wait_for_tokens(inspector, 30)
    written = first_line(inspector.text)
    killed = engine_of(inspector)
    os.kill(killed.pid, signal.SIGKILL)
    inspector.wait_for("killed")
    assert first_line(inspector.text) == written
    inspector.press("u")  # every key still answers
    inspector.wait_for("nats")

    inspector.press("ctrl+r")
    inspector.wait_for("ready", LOADING)
    assert engine_of(inspector).pid != killed.pid
    inspector.press("g")
    inspector.wait_for("writing")
    wait_for_tokens(inspector, 2)

    inspector.press("q")
    assert inspector.wait() == 0
    assert inspector.left_changed() == set()


def first_line(screen: str) -> str:
    """Of the answer: the first line under the prompt in the left column."""
    below = screen.partition(PROMPT)[2].splitlines()[1:]
    return next(line[:60].strip() for line in below if line[:60].strip())
