"""However the program is left, the shell gets its terminal back as it was, with nothing typed into it."""

from __future__ import annotations

import math
import os
import pty
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from recordings import recorded, session
from shells import GIVEN_BACK, PROGRAM, PROMPT, RUN, WRITES, bash, surroundings
from terminal import PANES_IN_TURN, Terminal, environment

pytestmark = pytest.mark.pty

LATE = 0.3
RECORDED = re.compile(r"recorded 1 run, \d+ tokens: `tui-entropy replay [\d-]{17}` shows it again\n")
CRASHING = """
from tui_entropy.ui.actions.looking import LookActions
def crash(app): raise RuntimeError("as it happens")
LookActions.action_unit = crash
from tui_entropy.__main__ import main
main()
"""
"""The program, where `u` raises."""


@pytest.mark.parametrize("late", [0, LATE], ids=["soon", "late"])
@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_leaving_while_it_writes_again_and_again_leaves_nothing(tmp_path, late, times):
    with bash(tmp_path, late=late) as shell:
        for n in range(times):
            shell.open(RUN)
            time.sleep(0.13 * (n % 5))
            shell.press("q")
            assert shell.closed() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1], ids=str)
def test_a_signal_ends_it_as_a_key_does(tmp_path, number):
    with bash(tmp_path, late=LATE) as shell:
        shell.open(f"{RUN}; echo status $?")
        shell.program.send_signal(number)
        assert shell.closed() == f"status {128 + number}\n"


def test_a_fault_in_it_is_told_on_a_terminal_that_is_as_it_was(tmp_path):
    (tmp_path / "crashing.py").write_text(CRASHING)
    with bash(tmp_path, late=LATE) as shell:
        shell.open(f"{sys.executable} crashing.py run --model toy --max-tokens 90000")
        shell.press("u")
        said = shell.closed()
        assert "as it happens" in said and "^[" not in said


def test_an_engine_that_is_left_and_come_back_to_and_a_recording(tmp_path):
    file = recorded(tmp_path / "a.tui", *session(60))
    with bash(tmp_path, late=LATE) as shell:
        shell.open(f"TUI_ENTROPY_KEEP=1m {RUN}")
        shell.press("ctrl+d")
        said = shell.closed()
        assert "tui-entropy attach" in said and "^[" not in said
        shell.open(f"{PROGRAM} attach")
        shell.press("B")
        shell.press("ctrl+q")
        assert shell.closed() == ""
        shell.open(f"{PROGRAM} replay {file}")
        shell.press("q")
        assert shell.closed() == ""


def test_what_was_recorded_is_told_with_the_command_that_shows_it_again(tmp_path):
    with bash(tmp_path, late=LATE) as shell:
        shell.open(RUN.removesuffix(" --no-trace"))
        shell.press("q")
        said = shell.closed()
        assert RECORDED.fullmatch(said)
        shell.open(f"{PROGRAM} {said.split('`')[1].removeprefix('tui-entropy ')} --all")
        shell.press("q")
        assert shell.closed() == ""


def test_from_one_session_to_another_and_back_on_one_terminal(tmp_path):
    recorded(tmp_path / "tui-entropy" / "traces" / "old.tui", *session(60))
    with bash(tmp_path, late=LATE) as shell:
        shell.open(f"TUI_ENTROPY_KEEP=1m {RUN.removesuffix(' --no-trace')}")
        shell.press("ctrl+o")
        shell.wait_for("2 recordings")
        shell.press("down")
        shell.press("enter")
        shell.wait_for("replay 60/60")
        shell.press("ctrl+o")
        shell.wait_for("1 engine running")
        shell.press("up")
        shell.press("enter")
        shell.wait_for("tok/s")
        shell.press("q")
        assert RECORDED.fullmatch(shell.closed())


def test_what_is_typed_ahead_while_it_leaves_is_dropped(tmp_path):
    with bash(tmp_path, late=LATE) as shell:
        shell.open(RUN)
        shell.press("qTTkk")
        for _ in range(3):  # while the last answer is waited for
            time.sleep(0.05)
            shell.press("echo no\r\x1b[<35;3;4M")
        assert shell.closed() == ""


def test_a_terminal_that_never_answers_is_not_waited_for_long(tmp_path):
    with bash(tmp_path, late=math.inf) as shell:
        shell.open(RUN)
        time.sleep(0.5)
        pressed = shell.press("q")
        assert shell.closed() == ""
        given_back = next(chunk.at for chunk in shell.chunks if GIVEN_BACK in chunk.data)
        assert given_back - pressed < 8


def test_one_that_answers_when_all_is_over_has_little_left_to_say(tmp_path):
    with bash(tmp_path, late=4.0) as shell:
        shell.open(RUN)
        time.sleep(5.0)  # until what was asked at the start is answered
        pressed = shell.press("q")
        shell.until(lambda: PROMPT.encode() in shell.left())
        given_back = next(chunk.at for chunk in shell.chunks if GIVEN_BACK in chunk.data)
        assert given_back - pressed < 8 and shell.left_on() == set()
        time.sleep(4.5)
        shell.settle()
        strays = shell.left().replace(PROMPT.encode(), b"").count(b"R")
        assert strays <= 2 * 2  # one question every two seconds, echoed by the terminal and typed into the shell


def test_a_terminal_that_reports_its_size_by_itself_is_told_to_stop(tmp_path):
    """Which a user's own setting has Textual ask for."""
    with bash(tmp_path, late=LATE, resize_reports=True) as shell:
        shell.open(f"TEXTUAL_SMOOTH_SCROLL=1 {RUN}")
        shell.until(lambda: "resize reports" in shell.left_on())
        shell.press("q")
        assert shell.closed() == ""


@pytest.mark.parametrize("redirected", ["2>err.log", "2>&-"])
def test_standard_error_may_go_elsewhere(tmp_path, redirected):
    with bash(tmp_path) as shell:
        shell.open(f"{RUN} {redirected}")
        shell.press("q")
        assert shell.closed() == ""
    assert not (tmp_path / "err.log").exists() or (tmp_path / "err.log").read_text() == ""


# --- Suspended ---------------------------------------------------------------------------------------------------


def test_ctrl_z_gives_the_terminal_back_and_fg_brings_all_of_it_back(tmp_path):
    with bash(tmp_path, late=LATE) as shell:
        shell.open(RUN)
        for _ in range(2):
            shell.press("ctrl+z")
            shell.until(lambda: shell.left().endswith(PROMPT.encode()))
            assert "^[" not in shell.left().decode() and b"Stopped" in shell.left() and shell.left_on() == set()
            shell.settle(1.0)  # it writes nothing, and asks nothing
            shell.type("echo o''k")
            shell.until(lambda: b"\nok\r\n" in shell.left())
            shell.settle()
            opened = shell.said.count(b"\x1b[?1049h")
            shell.type("fg")
            shell.until(lambda opened=opened: shell.said.count(b"\x1b[?1049h") > opened)
            shell.wait_for(WRITES)
            shell.press("space")
            shell.wait_for("paused")
            shell.settle(PANES_IN_TURN)
            shown = shell.looks
            shell.press("ctrl+l")
            shell.settle(PANES_IN_TURN)
            assert shell.looks == shown
            shell.press("space")
            shell.wait_for("writing")
        shell.press("q")
        assert shell.closed() == ""


def test_one_that_others_stop_takes_the_terminal_again(tmp_path):
    with bash(tmp_path) as shell:
        shell.open(RUN)
        shell.program.send_signal(signal.SIGSTOP)
        shell.until(lambda: b"Stopped" in shell.said)
        taken = shell.said.count(b"\x1b[?1049h")
        shell.press("ctrl+u")  # an answer may have come for a program that could not wait for it
        shell.type("fg")
        shell.until(lambda: shell.said.count(b"\x1b[?1049h") > taken)
        shell.wait_for(WRITES)
        shell.press("u")
        shell.wait_for("nats")
        shell.press("q")
        shell.until(lambda: shell.left().endswith(PROMPT.encode()))
        assert shell.left_on() == set() and "^[" not in shell.left().decode()


def test_where_no_shell_could_continue_it_goes_on(tmp_path):
    command = [*PROGRAM.split(), "run", "--model", "toy", "--max-tokens", "90000"]
    with Terminal(command, 100, 30, env=surroundings(tmp_path)) as terminal:
        terminal.wait_for(WRITES)
        terminal.press("ctrl+z")
        terminal.wait_for(lambda _: b"".join(chunk.data for chunk in terminal.chunks).count(b"\x1b[?1049h") == 2)
        terminal.press("u")
        terminal.wait_for("nats")
        terminal.press("q")
        assert terminal.wait() == 0 and terminal.left_changed() == set()


# --- A terminal that is gone, and one that sends what is no text ---------------------------------------------------


def test_it_does_not_outlive_its_terminal(tmp_path):
    ours, theirs = pty.openpty()
    command = [*PROGRAM.split(), "run", "--model", "toy", "--max-tokens", "90000"]
    env = environment(surroundings(tmp_path))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)  # hears no SIGHUP
    try:
        os.close(theirs)
        read = b""
        while b"step" not in read:
            read = read[-20:] + os.read(ours, 65536)
        children = psutil.Process(process.pid).children()
        os.close(ours)
        process.wait(20)
        assert not psutil.wait_procs(children, 10)[1]
    finally:
        process.kill()


def test_bytes_that_are_no_text_are_no_end(tmp_path):
    with bash(tmp_path) as shell:
        shell.open(RUN)
        os.write(shell._master, b"\xff\xfe\xc3\x80")
        shell.press("u")
        shell.wait_for("nats")
        shell.press("q")
        assert shell.closed() == ""
