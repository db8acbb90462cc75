"""Engines on this machine: started, found by the sockets they listen on, asked how they stand."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_entropy import link, paths
from tui_entropy.records import Standing

SUFFIX = ".sock"
PATIENCE = 1.0
"""Seconds for an engine to say how it stands. One that loads a model may need longer."""


@dataclass(frozen=True)
class Engine:
    """One that listens."""

    socket: Path
    standing: Standing | None
    """None while it is too busy to say."""

    @property
    def id(self) -> str:
        return self.socket.stem


@dataclass(frozen=True)
class Started:
    process: subprocess.Popen[bytes]
    socket: Path
    """Where it is going to listen."""
    log: Path

    @property
    def id(self) -> str:
        return self.socket.stem


def command() -> tuple[str, ...]:
    """The program that is an engine: ours, or the one that TUI_ENTROPY_ENGINE names."""
    ours = (sys.executable, "-m", "tui_entropy.engine.worker")
    return tuple(shlex.split(os.environ.get("TUI_ENTROPY_ENGINE", ""))) or ours


def start(program: Sequence[str]) -> Started:
    """Start an engine that no terminal can reach. program: gets two further arguments, the path of the socket to
    listen on and of its log. Raises OSError."""
    while (socket := paths.sockets() / f"{secrets.token_hex(2)}{SUFFIX}").exists():
        pass
    log = paths.logs() / f"engine-{socket.stem}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*program, str(socket), str(log)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # neither ctrl-C nor the end of the terminal is for it
        )
    return Started(process, socket, log)


def running() -> list[Engine]:
    """Oldest first. What dead engines left is removed. Raises UserError where others can open the folder."""
    folder = paths.sockets()
    if not folder.is_dir():
        return []
    link.private(folder)
    found = []
    for socket in sorted(folder.glob(f"*{SUFFIX}"), key=_age):
        if not _ours(socket):
            continue
        try:
            found.append(Engine(socket, ask(socket)))
        except ConnectionRefusedError:
            for left in folder.glob(f"{socket.stem}.*"):  # its record, if that was for its lifetime only
                left.unlink(missing_ok=True)
        except FileNotFoundError:
            pass  # ended meanwhile
    return found


def ask(socket: Path) -> Standing | None:
    """How an engine stands; None while it is too busy to say. Raises OSError where none listens."""
    try:
        end = link.connect(socket, PATIENCE)
    except TimeoutError:
        return None
    try:
        return next((event for event in end.receive(PATIENCE) if isinstance(event, Standing)), None)
    except link.LinkClosed:
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
        found = socket.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid()
