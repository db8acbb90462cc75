"""Engines without a screen: listed, chosen, ended, started, reached on another machine."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from msgspec.structs import replace

from tui_entropy.core import paths, text_table
from tui_entropy.core.dates import moment
from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Follow, Load, Quit, TakeControl, Write
from tui_entropy.records.events import BreakpointsChanged, Failed, Progress, Ready, Refused, Started, WatchesChanged
from tui_entropy.records.settings import Breakpoint
from tui_entropy.transport import connection, discovery
from tui_entropy.transport.discovery import Engine

RETRY_S = 0.02
"""Seconds between two looks at something that is awaited."""
STOP_TIMEOUT_S = 3.0
"""Seconds for an engine to end when asked, and again when told."""


def table(engines: Iterable[Engine]) -> str:
    """One row for each engine, under a heading; a sentence where there is none."""
    rows = [("id", "model", "state", "tokens", "screens", "since", "pid"), *map(_row, engines)]
    if len(rows) == 1:
        return "No engine is running.\n"
    return "".join(f"{line}\n" for line in text_table.lines(rows))


def _row(engine: Engine) -> tuple[str, ...]:
    now = engine.standing
    if now is None:
        return (engine.id, "", "busy", "", "", "", "")
    began = moment(now.began)
    since = f"{began.astimezone():%Y-%m-%d %H:%M}" if began else "unknown"
    model = now.model.name if now.model else "none yet"
    return (engine.id, model, now.state, str(now.tokens), str(now.screens), since, str(now.pid))


def select_engine(prefix: str | None) -> Engine:
    """The engine whose id begins so, or the only one. Raises UserError, with a list, where that is not one."""
    engines = discovery.running()
    fitting = [engine for engine in engines if engine.id.startswith(prefix or "")]
    if len(fitting) == 1:
        return fitting[0]
    if not engines:
        raise UserError(
            "no engine is running: `tui-entropy` starts one, `tui-entropy serve --headless` without a screen"
        )
    what = (
        f"{len(engines)} engines are running" if prefix is None else f"{prefix} is the id of {len(fitting)} engines"
    )
    raise UserError(f"{what}: give the id of one of these", table(engines).rstrip())


def stop(engine: Engine) -> None:
    """End it, whoever watches, and wait until it is gone. One that does not answer is ended by signals."""
    try:
        end = connection.connect(engine.socket)
    except (FileNotFoundError, ConnectionRefusedError):
        discovery.clear(engine.socket)
        return
    except OSError:  # so many wait for it that it cannot even be told
        _kill(engine, discovery.process_of(engine.socket))
        return
    pid = engine.standing.pid if engine.standing else connection.peer(end.socket)[0]
    with closing(end), suppress(connection.LinkClosed):
        end.send(TakeControl())
        end.send(Quit())
        for force in (None, signal.SIGTERM, signal.SIGKILL):
            if force and pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, force)
            end.linger(STOP_TIMEOUT_S, until_hung_up=True)
    discovery.clear(engine.socket)


def _kill(engine: Engine, pid: int | None) -> None:
    """End the process of an engine that cannot be reached. Raises UserError where it is not found."""
    if pid is None:
        raise UserError(
            f"engine {engine.id} does not answer and its process is not found: look for {engine.socket} in what runs"
        )
    for force in (signal.SIGTERM, signal.SIGKILL):
        limit = time.monotonic() + STOP_TIMEOUT_S
        with suppress(ProcessLookupError):
            os.kill(pid, force)
        while discovery.process_of(engine.socket) == pid and time.monotonic() < limit:
            time.sleep(RETRY_S)
    discovery.clear(engine.socket)


def serve(
    program: Sequence[str],
    load: Load,
    write: Write | None,
    on_progress: Callable[[Progress], None],
    breakpoints: tuple[Breakpoint, ...] = (),
    watches: tuple[str, ...] = (),
    on_notice: Callable[[str], object] = lambda _: None,
) -> str:
    """Start an engine, let it load and begin to write, and leave it. told: hears how far it is. noticed: hears what
    a person must know of it.

    Returns its id. Raises UserError where it cannot do that, and then nothing is left of it.
    """
    try:
        started = discovery.start(program, replace(load, watches=watches, breakpoints=breakpoints, write=write))
    except OSError as refused:
        raise UserError(f"the engine could not be started: {refused}") from refused
    try:
        while (end := started.reach()) is None:
            time.sleep(RETRY_S)
        with closing(end):
            end.send(Follow(guest=True))
            last = Started if write else BreakpointsChanged if breakpoints else WatchesChanged if watches else Ready
            while True:
                for event in end.receive(None):
                    match event:
                        case Progress():
                            on_progress(event)
                        case Refused(notice=True):
                            on_notice(event.sentence)
                        case Failed() | Refused():
                            raise UserError(event.sentence)
                        case _ if isinstance(event, last):
                            return started.id
    except connection.LinkClosed as gone:
        code = started.end(RETRY_S)
        raise UserError(discovery.how_it_ended(code, str(gone), discovery.last_line(started.log))) from None
    except BaseException:
        started.end(RETRY_S)
        raise


def over_ssh(host: str, program: str, arguments: Sequence[str]) -> list[str]:
    """The command that attaches there. program: what ours is called on that machine."""
    return ["ssh", "-t", "--", host, shlex.join([program, "attach", *arguments])]


def is_forwarded(socket: Path) -> bool:
    """True where the engine behind a socket may be on another machine, so that its files cannot be read from here."""
    return socket.absolute().parent.resolve() != paths.sockets().resolve()
