"""A real bash in a real tmux, which answers the program's questions itself."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest
from shells import NEXT, PROMPT, RUN, WRITES, surroundings
from terminal import environment

pytestmark = [pytest.mark.pty, pytest.mark.skipif(not shutil.which("tmux"), reason="there is no tmux here")]

MODES = "alternate_on", "cursor_flag", "mouse_any_flag", "mouse_all_flag", "mouse_sgr_flag", "insert_flag"
SHELL = "bash", "--norc", "--noprofile", "-i"
AS_THEY_ARE = "0 1 0 0 0 0"


class Tmux:
    """A server of its own, with one bash."""

    def __init__(self, folder: os.PathLike[str], env: dict[str, str]) -> None:
        self._name, self._env = f"test-{secrets.token_hex(4)}", env
        self("-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "32", "-c", str(folder), *SHELL)

    def __call__(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=True, timeout=20).stdout

    @property
    def text(self) -> str:
        return self("capture-pane", "-p").rstrip()

    @property
    def modes(self) -> str:
        return self("display-message", "-p", " ".join(f"#{{{name}}}" for name in MODES)).strip()

    def press(self, *keys: str) -> None:
        self("send-keys", *keys)

    def until(self, holds: Callable[[str], object], timeout: float = 60.0) -> str:
        end = time.perf_counter() + timeout
        while not holds(text := self.text):
            assert time.perf_counter() < end, text
            time.sleep(0.05)
        return text


@pytest.fixture
def tmux(tmp_path):
    server = Tmux(tmp_path, environment(surroundings(tmp_path)))
    try:
        server.until(lambda text: text.endswith(PROMPT.strip()))
        yield server
    finally:
        server("kill-server")


def leaves_nothing(tmux: Tmux, *keys: str) -> None:
    """The program is opened and left while it writes, and the next command is typed right."""
    tmux.press(f"clear; stty -g >before; {RUN}", "Enter")
    tmux.until(WRITES.search)
    for key in keys:
        tmux.press(key)
    tmux.until(lambda text: "next token" not in text and text.endswith(PROMPT.strip()))
    time.sleep(0.3)
    tmux.press(NEXT, "Enter")
    text = tmux.until(lambda text: re.search(r"^ok\n", text, re.MULTILINE))
    assert text == f"{PROMPT}{NEXT}\nok\n{PROMPT.strip()}"
    assert tmux.modes == AS_THEY_ARE


@pytest.mark.parametrize("times", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_quitting_again_and_again_leaves_nothing_in_the_shell(tmux, times):
    for n in range(times):
        leaves_nothing(tmux, *(("b", "C-q") if n % 4 == 3 else ("q",)))


def test_ctrl_z_and_fg(tmux):
    tmux.press(RUN, "Enter")
    tmux.until(WRITES.search)
    tmux.press("C-z")
    tmux.until(lambda text: "Stopped" in text and text.endswith(PROMPT.strip()))
    assert tmux.modes == AS_THEY_ARE
    tmux.press("fg", "Enter")
    tmux.until(lambda text: WRITES.search(text) and tmux.modes != AS_THEY_ARE)
    tmux.press("q")
    text = tmux.until(lambda text: "next token" not in text and text.endswith(PROMPT.strip()))
    assert "^[" not in text and tmux.modes == AS_THEY_ARE
