"""Engines on this machine: started, found by the sockets they listen on, asked how they stand."""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypedDict

from tui_entropy.core import files, paths
from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Load
from tui_entropy.records.events import Standing
from tui_entropy.records.settings import ON_LEAVE
from tui_entropy.transport import connection
from tui_entropy.transport.durations import UNITS, duration, n_bytes, seconds

ENGINE = (sys.executable, "-m", "tui_entropy.serving.worker")
SUFFIX = ".sock"
STATUS_TIMEOUT_S = 1.0
"""Seconds for an engine to say how it stands. One that loads a model may need longer."""
START_TIMEOUT_S = 60.0
"""An engine that has not begun to listen by then never will."""


@dataclass(frozen=True)
class Engine:
    """An engine that listens."""

    socket: Path
    standing: Standing | None
    """None while it is too busy to say."""

    @property
    def id(self) -> str:
        return self.socket.stem


@dataclass(frozen=True)
class Started:
    """An engine that was started here."""

    process: subprocess.Popen[bytes]
    socket: Path
    """Where it is going to listen."""
    log: Path
    at: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        return self.socket.stem

    def reach(self) -> connection.ScreenEnd | None:
        """The link to it; None while it does not listen yet. Raises LinkClosed once it never will."""
        try:
            return connection.connect(self.socket, patience=0)
        except OSError:
            if self.process.poll() is None and time.monotonic() < self.at + START_TIMEOUT_S:
                return None
            raise connection.LinkClosed("it never began to listen") from None

    def end(self, grace: float = 0.0, *signals: int) -> int | None:
        """Leave nothing of it: no process, no socket. grace: seconds for it to end by itself, and again after each of
        the signals; then it is killed. Returns its exit status, None if it was killed."""
        try:
            for force in (*signals, signal.SIGKILL):
                try:
                    return self.process.wait(grace)
                except subprocess.TimeoutExpired:
                    with suppress(ProcessLookupError):
                        os.killpg(self.process.pid, force)
            self.process.wait()
            return None
        finally:
            clear(self.socket)


def command() -> tuple[str, ...]:
    """The program that is an engine: ours, or the one that TUI_ENTROPY_ENGINE names."""
    return tuple(shlex.split(os.environ.get("TUI_ENTROPY_ENGINE", ""))) or ENGINE


def start(program: Sequence[str], load: Load | None = None) -> Started:
    """Start an engine that no terminal can reach. program: gets two further arguments, the path of the socket to
    listen on and of its log. load: what it is to do, which it has from the start, whatever becomes of whoever wished
    it; without one it waits for that on its socket. Raises OSError, and UserError for a wish that no engine takes."""
    order = None if load is None else connection.encode_command(load)
    clear_logs()
    while (socket := socket_of(_new_id())).exists():
        pass
    with open(open_log(log := log_of(socket)), "wb") as output, _nameless() as stdin:
        stdin.write(order or b"")
        stdin.seek(0)
        process = subprocess.Popen(
            [*program, str(socket), str(log)],
            stdin=stdin if order else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # neither ctrl-C nor the end of the terminal is for it
        )
    return Started(process, socket, log)


def _nameless() -> IO[bytes]:
    """A file that nobody else can open, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("order"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def order() -> Load | None:
    """In the process of an engine: what it was given by `start`. Raises UserError for what is no order."""
    try:
        if not stat.S_ISREG(os.fstat(0).st_mode):
            return None
        with open(0, "rb", closefd=False) as stdin, open(os.devnull, "rb") as nothing:
            encoded = stdin.read(connection.MAX_COMMAND_BYTES + 1)
            os.dup2(nothing.fileno(), 0)  # nobody else is to read it
    except OSError:
        return None
    command = connection.decode_command(encoded) if encoded else None
    if command is not None and not isinstance(command, Load):
        raise UserError(f"an engine is given a Load to begin with, and this is a {type(command).__name__}")
    return command


def _new_id() -> str:
    """Four letters that are no word."""
    return "".join(secrets.choice("bcdfghjkmnpqrstvwxz") for _ in range(4))


def socket_of(engine: str) -> Path:
    """Where an engine of this machine listens, by its id."""
    return paths.sockets() / f"{engine}{SUFFIX}"


def log_of(socket: Path) -> Path:
    """The log file of an engine: what it and its libraries print."""
    return paths.logs() / f"engine-{socket.stem}.log"


def open_log(log: Path) -> int:
    """A descriptor of a log, which counts as in use for as long as somebody has it. Raises OSError."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = files.kept_open(log, os.O_WRONLY | os.O_APPEND)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def clear_logs() -> None:
    """Remove what engines said that were killed or failed, and of which nobody writes any more."""
    for log in paths.logs().glob("engine-*.log"):
        try:
            descriptor = files.kept_open(log, os.O_WRONLY)
        except OSError:
            continue  # not ours, or gone meanwhile
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            log.unlink(missing_ok=True)
        except OSError:
            pass  # in use
        finally:
            os.close(descriptor)


def running() -> list[Engine]:
    """Oldest first. What dead engines left is removed. Raises UserError where others can open the folder."""
    folder = paths.sockets()
    if not folder.is_dir():
        return []
    files.private(folder)
    engines = []
    for socket in sorted(folder.glob(f"*{SUFFIX}"), key=_age):
        if not _ours(socket):
            continue
        try:
            engines.append(Engine(socket, ask(socket)))
        except ConnectionRefusedError:
            clear(socket)
        except FileNotFoundError:
            pass  # ended meanwhile
        except OSError:
            engines.append(Engine(socket, None))
    return engines


def process_of(socket: Path) -> int | None:
    """The process that was started to listen there, where it cannot be asked; None if none is found."""
    import psutil

    for process in psutil.process_iter(["cmdline", "uids"]):
        known = process.info
        if known["uids"] and known["uids"].real == os.getuid() and str(socket) in (known["cmdline"] or ())[-2:]:
            return int(process.pid)
    return None


def clear(socket: Path) -> None:
    """Remove what a dead engine left: its socket, and its record if that was to go with it."""
    for left in socket.parent.glob(f"{socket.stem}.*"):
        left.unlink(missing_ok=True)


def ask(socket: Path) -> Standing | None:
    """The standing of an engine; None while it is too busy to say. Raises OSError where none listens."""
    try:
        end = connection.connect(socket, STATUS_TIMEOUT_S)
    except TimeoutError:
        return None
    try:
        return next((event for event in end.receive(STATUS_TIMEOUT_S) if isinstance(event, Standing)), None)
    except connection.LinkClosed:
        raise FileNotFoundError(f"the engine of {socket} has just ended") from None
    finally:
        end.close()


def _age(socket: Path) -> float:
    try:
        return socket.lstat().st_mtime
    except FileNotFoundError:
        return time.time()


def _ours(socket: Path) -> bool:
    try:
        status = socket.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == os.getuid()


def how_it_ended(code: int | None, why: str, last: str) -> str:
    """One sentence. code: as of Popen.returncode, None for an engine that still runs.

    why: what broke the link, empty for a hang-up.
    """
    if code is None or (why and not code):
        return f"the link to the engine broke: {why or 'it hung up'}"
    if code == -signal.SIGKILL:
        return "the engine was killed (SIGKILL), often for lack of memory"
    if code < 0:
        return f"the engine was ended by {signal.Signals(-code).name}" + (f": {last}" if last else "")
    return f"the engine ended with code {code}" + (f": {last}" if last else "")


def last_line(file: Path) -> str:
    """The last line with anything on it, empty if there is none. Control characters are left out."""
    try:
        with file.open("rb") as log:
            log.seek(max(file.stat().st_size - 4096, 0))
            lines = log.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = ("".join(letter for letter in line if letter.isprintable()).strip() for line in reversed(lines))
    return next((line for line in said if line), "")


def lifetime_options(keep: str, on_leave: str, kept_cache: str = "1GiB") -> LifetimeOptions:
    """The lifetime options of an engine that stays, from what a person typed. Raises UserError."""
    if on_leave not in ON_LEAVE:
        raise UserError(f"--on-leave {on_leave}: wanted one of {', '.join(ON_LEAVE)}")
    return {"keep": seconds(keep), "on_leave": on_leave, "kept_cache": n_bytes(kept_cache)}


class LifetimeOptions(TypedDict):
    """As in Load."""

    keep: float
    on_leave: str
    kept_cache: int


def reattach_hint(engine: str, keep: float) -> str:
    """To an engine that was left."""
    return (
        f"`tui-entropy attach {engine}` comes back, `tui-entropy stop {engine}` ends it, and so "
        f"{'does' if keep in UNITS.values() else 'do'} {duration(keep)} with nobody attached"
    )
