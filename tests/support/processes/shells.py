"""An interactive bash in a pty, what a program leaves to it, and the program with an engine of its own."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from places import FAKE_ENGINE
from terminal import Terminal

PROMPT = "READY> "
FAKE = f"{sys.executable} {FAKE_ENGINE} --rate 100"
PROGRAM = f"{sys.executable} -m tui_entropy"
RUN = f"{PROGRAM} run --model toy --max-tokens 90000 --no-trace"
WRITES = re.compile(r"step \d\d+ of")
NEXT = "stty -g | cmp - before && echo ok"
GIVEN_BACK = b"\x1b[?1049l\x1b[?25h"
"""What is sent last."""


def surroundings(folder: Path) -> dict[str, str]:
    """Environment variables of a shell with a bare prompt, and of a program with folders and an engine of its own."""
    (settings := folder / "inputrc").write_text("set enable-bracketed-paste off\nset bell-style none\n")
    folders = {name: str(folder) for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    return folders | {"PS1": PROMPT, "INPUTRC": str(settings), "TUI_ENTROPY_ENGINE": FAKE, "HISTFILE": "/dev/null"}


class Shell(Terminal):
    """A bash that a person types into."""

    _opened = 0
    """Bytes that had come before the program was started."""

    @property
    def said(self) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks)

    def left(self) -> bytes:
        """What came since the program that was opened last gave the terminal back; nothing before it does."""
        return self.said[self._opened :].rpartition(GIVEN_BACK)[2] if GIVEN_BACK in self.said[self._opened :] else b""

    def type(self, line: str) -> None:
        self.press(line + "\r")

    def open(self, command: str) -> None:
        """Start a program that draws on the screen, and wait until it writes."""
        self._opened = len(self.said)
        self.type(f"clear; stty -g >before; {command}")
        self.wait_for(lambda text: b"\x1b[?1049h" in self.said[self._opened :] and WRITES.search(text), 60)

    @property
    def program(self) -> psutil.Process:
        (program,) = psutil.Process(self.process.pid).children()
        return program

    def until(self, holds: Callable[[], object], timeout: float = 30.0) -> None:
        end = time.perf_counter() + timeout
        while not holds():
            assert time.perf_counter() < end, f"{self.said[-2000:]!r}"
            time.sleep(0.01)

    def closed(self, quiet: float = 0.4) -> str:
        """Wait for the prompt behind a program that was told to go, and type the next command, which finds the
        settings of the terminal to be as before. Returns what else is there since: nothing, if it left clean."""
        self.until(lambda: self.left().endswith(PROMPT.encode()))
        self.settle(quiet)
        self.type(NEXT)
        self.until(lambda: self.left().count(PROMPT.encode()) == 2)
        self.settle(quiet)
        left, end = self.left().decode().replace("\r\n", "\n"), f"{PROMPT}{NEXT}\nok\n{PROMPT}"
        assert left.endswith(end), repr(left)
        assert self.left_on() == set()
        return left.removesuffix(end)


@contextmanager
def bash(folder: Path, **terminal: float | bool) -> Iterator[Shell]:
    command = ["bash", "--norc", "--noprofile", "-i"]
    with Shell(command, 100, 30, env=surroundings(folder), cwd=folder, **terminal) as shell:  # type: ignore[arg-type]
        shell.wait_for(PROMPT.strip())
        yield shell
