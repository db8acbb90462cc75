"""The screen's end of an engine: started or attached to, listened to, left or ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Command, Follow, Load, Quit
from tui_entropy.records.events import Dismissed, Event, Failed, Refused
from tui_entropy.transport import connection, discovery

RECEIVE_REST_S = 0.01
"""After what was heard soon after something else, so that a fast engine wakes the screen a hundred times a second and
not for each token."""
CONNECT_RETRY_S = 0.005
"""Between two tries to reach an engine that does not listen yet."""
STOP_TIMEOUT_S = 0.7
"""For an engine to go when asked, and again when told."""


class EngineProcess:
    """One engine at a time. `told` gets every batch of events, `lost` one sentence when the engine is gone.

    Everything but `close` and `leave` returns at once; both callbacks run on the event loop that called `start` or
    `attach`.
    """

    def __init__(
        self, command: Sequence[str], on_events: Callable[[list[Event]], None], on_lost: Callable[[str], None]
    ) -> None:
        self.command = tuple(command)
        """Started with two further arguments: the path of the socket to listen on, and of the log file."""
        self._on_events, self._on_lost = on_events, on_lost
        self._started: discovery.Started | None = None
        """None where somebody else started it."""
        self._link: connection.ScreenEnd | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        """When it was listened to last, or began to be after a rest."""
        self._waiting: list[Command] = []
        self._stays = False
        """An engine that was started here goes on without this screen."""
        self.log = Path()

    @property
    def pid(self) -> int | None:
        """The process id of an engine that was started here."""
        return self._started.process.pid if self._started else None

    @property
    def backlog(self) -> int:
        """Bytes that the engine has not taken yet."""
        return self._link.backlog if self._link else 0

    def start(self, load: Load | None = None) -> None:
        """Start a fresh engine, which has its orders from the start; one that was started here and still runs is
        killed first."""
        self._end(at_once=True)
        self._loop = asyncio.get_running_loop()
        try:
            self._started = discovery.start(self.command, load)
        except UserError as mistake:
            answer = Failed(str(mistake), fatal=True)
            self._loop.call_soon(lambda: self._on_events([answer]))
            return
        except OSError as refused:
            self._loop.call_soon(self._on_lost, f"the engine could not be started: {refused}")
            return
        self.log = self._started.log
        self._waiting, self._stays = [Follow()], load is not None and load.keep > 0
        self._try_connect()

    def attach(self, socket: Path) -> None:
        """Reach an engine that runs. It says how it stands, and more only to a `Follow`."""
        self._loop, self.log = asyncio.get_running_loop(), discovery.log_of(socket)
        try:
            self._meet(connection.connect(socket))
        except OSError as refused:
            self._loop.call_soon(
                self._on_lost, f"no engine answers at {socket} ({refused}): `tui-entropy attach --list`"
            )

    def send(self, command: Command) -> None:
        """Sent now, or as soon as the engine listens. With no engine it is dropped."""
        if self._link is None:
            if self._started is not None:
                self._waiting.append(command)
            return
        try:
            self._link.send_encoded(connection.encode_command(command))
        except UserError as mistake:
            sentence = str(mistake)
            answer = Failed(sentence, fatal=True) if isinstance(command, Load) else Refused(sentence)
            self._loop.call_soon(lambda: self._on_events([answer]))
            return
        except connection.LinkClosed:
            self._cut_off()
            return
        if self._link.backlog:
            self._loop.add_writer(self._link.fileno(), self._flush)

    def distrust(self, why: str) -> None:
        """Hang up on an engine that says what cannot be, and end it where it was started here."""
        if self._link is not None:
            self._hung_up(why)

    def close(self) -> None:
        """Ask the engine to go, then make it go where it was started here. Waits for that, at most a moment."""
        reached = self._link is not None
        self.send(Quit())
        self._wait_until_sent(until_hung_up=True)
        self._end(at_once=not reached)

    def leave(self) -> None:
        """Hang up. The engine does what was set for that; one that was not reached yet, and has no orders or is not
        to stay, is ended."""
        if self._link is None and not self._stays:
            self._end(at_once=True)
        self._wait_until_sent()
        self._part()

    def _wait_until_sent(self, until_hung_up: bool = False) -> None:
        """Wait a moment for the engine to take what was said to it, and to go if it was told to."""
        if self._link is not None:
            with contextlib.suppress(connection.LinkClosed):
                self._link.linger(STOP_TIMEOUT_S, until_hung_up)

    def _try_connect(self) -> None:
        assert self._started is not None
        try:
            end = self._started.reach()
        except connection.LinkClosed as gone:
            self._hung_up(str(gone))
            return
        if end is None:
            self._timer = self._loop.call_later(CONNECT_RETRY_S, self._try_connect)
        else:
            self._meet(end)

    def _meet(self, end: connection.ScreenEnd) -> None:
        self._link = end
        self._listen()
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self.send(command)

    def _read(self) -> None:
        if self._link is None:
            return
        try:
            events = self._link.receive()
        except connection.LinkClosed as gone:
            self._hung_up(str(gone))
            return
        if events and isinstance(events[-1], Dismissed):
            self._part()
            self._started = None
            self._on_lost(events[-1].sentence)
        elif events:
            self._on_events(events)
            before, self._heard_at = self._heard_at, self._loop.time()
            if self._heard_at - before < RECEIVE_REST_S:
                self._loop.remove_reader(self._link.fileno())
                self._rest = self._loop.call_later(RECEIVE_REST_S, self._listen)

    def _cut_off(self) -> None:
        """The engine has closed the link, and may have said why."""
        self._read()
        if self._link is not None:
            self._hung_up("")

    def _listen(self) -> None:
        self._heard_at = self._loop.time()
        if self._link is not None:
            self._loop.add_reader(self._link.fileno(), self._read)

    def _flush(self) -> None:
        if self._link is None:
            return
        try:
            self._link.flush()
        except connection.LinkClosed:
            self._cut_off()
            return
        if not self._link.backlog:
            self._loop.remove_writer(self._link.fileno())

    def _hung_up(self, why: str) -> None:
        """The link is gone. Its process may need a moment to be gone too, and only then it tells how it ended."""
        self._part()
        self._timer = self._loop.call_later(0.05, self._report, why, 10)

    def _report(self, why: str, patience: int) -> None:
        code = self._started.process.poll() if self._started else None
        if self._started and code is None and patience:
            self._timer = self._loop.call_later(0.05, self._report, why, patience - 1)
            return
        last = discovery.last_line(self.log)
        self._end(at_once=True)
        self._on_lost(discovery.how_it_ended(code, why, last))

    def _part(self) -> None:
        for timer in (self._timer, self._rest):
            if timer is not None:
                timer.cancel()
        if self._link is not None:
            self._loop.remove_reader(self._link.fileno())
            self._loop.remove_writer(self._link.fileno())
            self._link.close()
        self._timer = self._rest = self._link = None
        self._waiting = []

    def _end(self, at_once: bool) -> None:
        """Leave nothing behind: no process, no socket."""
        self._part()
        started, self._started = self._started, None
        if started is not None:
            started.end(*(() if at_once else (STOP_TIMEOUT_S, signal.SIGTERM)))
