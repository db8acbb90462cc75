"""A terminal to run programs in: a pty that answers as a terminal does, and remembers every byte and when it came.

A thread reads and answers, so the program is never kept waiting; the screen is worked out only when it is asked
for, so measuring costs the program nothing. It answers as xterm does, and knows synchronised output besides.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import pyte
from slow_link import Link, Relay
from terminal_answers import Answers, Whole

KEYS = {
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "delete": "\x1b[3~",
    "shift+tab": "\x1b[Z",
    "shift+left": "\x1b[1;2D",
    "shift+right": "\x1b[1;2C",
    "f1": "\x1bOP",
    "escape": "\x1b",
    "enter": "\r",
    "tab": "\t",
    "space": " ",
    "backspace": "\x7f",
}

NOT_FOR_PYTE = re.compile(rb"\x1b\[[<=>][0-?]*[ -/]*[@-~]|\x1bP.*?\x1b\\", re.DOTALL)


PANES_IN_TURN = 2.5
"""Seconds without a byte after which no pane waits for its turn, also on a machine with much else to do."""


@dataclass(frozen=True)
class Chunk:
    at: float
    """time.perf_counter() when it was read."""
    data: bytes


class Screen:
    """What the bytes have drawn. The alternate screen is the same as the main one."""

    def __init__(self, width: int, height: int) -> None:
        self.cells = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.cells)
        self._whole = Whole()
        self._text: str | None = None
        """What `text` was last; None once something has come since."""

    def feed(self, data: bytes) -> None:
        self._text = None
        self._stream.feed(NOT_FOR_PYTE.sub(b"", self._whole(data)))

    def resize(self, width: int, height: int) -> None:
        self._text = None
        self.cells.resize(height, width)

    @property
    def updating(self) -> bool:
        """Inside a synchronised update: a terminal that knows them shows the screen before it."""
        return 2026 << 5 in self.cells.mode  # as pyte keeps private modes

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = "\n".join(line.rstrip() for line in self.cells.display)
        return self._text

    @property
    def looks(self) -> list[list[object]]:
        """Every cell as it is seen: of a space only what shows on one."""
        rows = ([self.cells.buffer[y][x] for x in range(self.cells.columns)] for y in range(self.cells.lines))
        return [[_seen(cell) for cell in row] for row in rows]


def _seen(cell: pyte.screens.Char) -> object:
    lined = cell.underscore or cell.reverse or cell.strikethrough
    return cell if cell.data != " " or lined else (" ", cell.bg)


class Terminal:
    """A command in a pty of its own. Use it in a `with`: at the end nothing of it is left running.

    env is laid over the caller's environment, less what describes the caller's own terminal.
    late: seconds that it thinks before it answers; keys come at once, and math.inf is never.
    """

    def __init__(
        self,
        command: Sequence[str],
        width: int = 120,
        height: int = 36,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        link: Link | None = None,
        late: float = 0.0,
        resize_reports: bool = False,
    ) -> None:
        self._relay = Relay(link) if link else None
        self._late = late
        self._thinking: deque[tuple[float, bytes]] = deque()
        """Answers, and when they are due."""
        self.chunks: list[Chunk] = []
        self._received = 0
        self._master, self._slave = pty.openpty()
        self._set_size(width, height)
        self._before = termios.tcgetattr(self._slave)
        self._answers, self._screen, self._fed = Answers(width, height, resize_reports), Screen(width, height), 0
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=environment(env or {}),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        os.close(self._master)
        os.close(self._slave)

    # --- What it shows ---

    @property
    def size(self) -> tuple[int, int]:
        return self._answers.size

    @property
    def drawing(self) -> bool:
        """The program has the alternate screen, which it has to itself."""
        return self._answers.modes.get(1049, False)

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self._received

    @property
    def text(self) -> str:
        while self._feed_next():
            pass
        return self._screen.text

    @property
    def looks(self) -> list[list[object]]:
        """Every cell as it is seen."""
        assert self.text  # which brings it up to date
        return self._screen.looks

    def wait_for(self, what: str | re.Pattern[str] | Callable[[str], object], timeout: float = 20.0) -> float:
        """Wait until the screen shows it. Returns time.perf_counter() of the chunk that brought it.

        Raises AssertionError, with the screen, when it has not come in `timeout` seconds or never will.
        """
        shows = _shower(what)
        end, shown_at = time.perf_counter() + timeout, time.perf_counter()
        while self._screen.updating or not shows(self._screen.text):
            if chunk := self._feed_next():
                shown_at = chunk.at
            elif time.perf_counter() > end or not self._reader.is_alive():
                raise AssertionError(f"{what!r} was not shown in {timeout} s. The screen:\n{self._screen.text}")
            else:
                time.sleep(0.01)
        return shown_at

    def settle(self, quiet: float = 0.3, timeout: float = 20.0) -> None:
        """Wait until nothing has come for `quiet` seconds."""
        end = time.perf_counter() + timeout
        while (last := self.chunks[-1].at if self.chunks else self.started) > time.perf_counter() - quiet:
            assert time.perf_counter() < end, f"still drawing after {timeout} s"
            time.sleep(max(0.001, last + quiet - time.perf_counter()))

    # --- What a person does ---

    def press(self, *keys: str) -> float:
        """Keys by name ('left', 'ctrl+p') or as what they type. Returns time.perf_counter() before the last."""
        at = 0.0
        for key in keys:
            code = chr(ord(key[-1]) & 0x1F) if key.startswith("ctrl+") else KEYS.get(key, key)
            at = time.perf_counter()
            self._send(code.encode())
        return at

    def send(self, data: bytes, patience: float = 20.0) -> bool:
        """All of it in one write, as when keys come faster than they are read. Whether it was taken in."""
        end = time.perf_counter() + patience
        while not select.select([], [self._master], [], 0.05)[1]:
            if time.perf_counter() > end:
                return False
        self._send(data)
        return True

    def paste(self, text: str) -> None:
        bracketed = self._answers.modes.get(2004, False)
        self._send(b"\x1b[200~%s\x1b[201~" % text.encode() if bracketed else text.encode())

    def click(self, x: int, y: int) -> None:
        """Left button at a cell counted from 0."""
        self._send(b"\x1b[<0;%d;%dM\x1b[<0;%d;%dm" % (x + 1, y + 1, x + 1, y + 1))

    def resize(self, width: int, height: int) -> None:
        while self._feed_next():  # what was drawn for the old size
            pass
        self._screen.resize(width, height)
        self._answers.size = width, height
        self._set_size(width, height)

    def wait(self, timeout: float = 20.0) -> int:
        """The exit status, once everything it wrote has been read. Raises subprocess.TimeoutExpired."""
        status = self.process.wait(timeout)
        self._reader.join()
        return status

    def left_on(self) -> set[str]:
        """Modes that are not as they were."""
        return self._answers.left_on()

    def left_changed(self) -> set[str]:
        """What the program has changed of the terminal and not put back."""
        return self.left_on() | ({"termios"} if termios.tcgetattr(self._slave) != self._before else set())

    # --- Inside ---

    def _send(self, data: bytes) -> None:
        if self._relay:
            self._relay.back(data)
        else:
            os.write(self._master, data)

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _feed_next(self) -> Chunk | None:
        if self._fed == len(self.chunks):
            return None
        chunk = self.chunks[self._fed]
        self._fed += 1
        self._screen.feed(chunk.data)
        return chunk

    def _read(self) -> None:
        # The slave stays open here, for its termios; so the end of the process, not of the file, ends the reading.
        relay = self._relay
        while True:
            gone = self.process.poll() is not None
            wanted = [] if relay and relay.full else [self._master]
            readable, _, _ = select.select(wanted, [], [], 0 if gone else 0.002 if relay else self._until_due())
            data = os.read(self._master, 65536) if readable else b""
            if relay:
                relay.take(data)
                data = relay.arrived()
                if back := relay.returned():
                    os.write(self._master, back)
            if data:
                self.chunks.append(Chunk(time.perf_counter(), data))
                self._received += len(data)
            self._answer(data)
            if not data and gone and not readable and (relay is None or relay.idle):
                return

    def _until_due(self) -> float:
        """Seconds to look for something to read, until there is an answer to give."""
        return min(max(self._thinking[0][0] - time.perf_counter(), 0), 0.1) if self._thinking else 0.1

    def _answer(self, data: bytes) -> None:
        now = time.perf_counter()
        if (answer := self._answers.to(data)) and self._late < math.inf:
            self._thinking.append((now + self._late, answer))
        while self._thinking and self._thinking[0][0] <= now:
            self._send(self._thinking.popleft()[1])


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The caller's, as an xterm with 24-bit colour that nobody has configured would have it, and `extra` over it."""
    of_the_caller = ("TEXTUAL", "TMUX", "NO_COLOR", "TERM", "COLORTERM", "COLUMNS", "LINES", "SSH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(of_the_caller)}
    return kept | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"} | dict(extra)


def _shower(what: str | re.Pattern[str] | Callable[[str], object]) -> Callable[[str], object]:
    if isinstance(what, str):
        return lambda text: what in text
    return what.search if isinstance(what, re.Pattern) else what
