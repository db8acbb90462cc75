"""Everyone who watches one engine: let in, told what happens, heard, and let go. No torch, and one thread.

One screen is in control, the others watch: what they command is refused, what they ask is answered. Each first hears
what was recorded before it came, as far as it does not know it, and then what happens; the order of the record makes
one of the two. Of all that was written it hears only what the text that is looked at is made of; if it is about to
need more, it hears everything from the beginning once more. A screen that does not read is let go, so that neither
the engine nor the others wait for it; one that says what is no command, or fails in any other way, is let go alone.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from tui_entropy.records.commands import Command, Follow, Load, Quit, Relayed, Stop, TakeControl, Write
from tui_entropy.records.events import (
    Dismissed,
    Ended,
    Event,
    Failed,
    Progress,
    Proposed,
    Refused,
    Standing,
    Started,
    Switched,
)
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.step import Step
from tui_entropy.serving import admission
from tui_entropy.serving.admission import Listener
from tui_entropy.serving.heard import Heard, Requests
from tui_entropy.serving.limits import (
    CATCH_UP_SLICE_S,
    CLOSE_TIMEOUT_S,
    ENDED,
    FIRST_COMMAND_TIMEOUT_S,
    FULL,
    LEAVING,
    LET_GO,
    MAX_BACKLOG_BYTES,
    MAX_CATCH_UP_BYTES,
    MEMORY_FULL,
    MISTAKEN,
    STARTER_TIMEOUT_S,
    TOO_MANY_WAIT,
    TOO_SLOW,
    WAITS,
    WATCHES,
)
from tui_entropy.serving.observer import Client, depends_on, missing_events
from tui_entropy.trace.schema import SUFFIX
from tui_entropy.trace.writer import Recorder
from tui_entropy.transport.connection import EngineEnd, LinkClosed, Rejected, encode, listen, ready


class Broadcaster:
    def __init__(self, path: Path, order: Load | None = None) -> None:
        """Listens from now on. order: what is to be done, whoever comes. Raises UserError for no private socket."""
        self.path = path
        self.describe: Callable[[Standing], Standing] = lambda standing: standing
        """Fills in what the engine knows of itself."""
        self.open_probes: frozenset[str] = frozenset()
        """Names of those that whoever watches may ask."""
        self._listener, self._most = Listener(listen(path)), admission.most_links()
        self._clients: list[Client] = []
        self._control: Client | None = None
        self._asker: Client | None = None
        """Whose command is being obeyed."""
        self._heard, self._requests = Heard(), Requests()
        self._order, self._awaited = order, True
        """What it was started for and has not heard yet; whether nobody has followed yet."""
        self._fatal: Failed | None = None
        self._keep, self._on_leave = FIRST_COMMAND_TIMEOUT_S, "write"
        self._alone_since, self._began = time.monotonic(), time.time()
        self._turn = 0
        """Whose turn it is to be told what it missed."""
        self._news = False
        """Screens came, went or took control, and not everyone knows."""
        self._recorder = Recorder(None)
        self._proposed: dict[int, Proposed] = {}
        """What is held up now, which no record has: of a run, and of its twin."""

    # --- Telling ---------------------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """To the record, and to everyone."""
        self._recorder.take(event)
        match event:
            case Proposed():
                self._proposed[event.run] = event
            case Step() | Ended():
                self._proposed.pop(event.run, None)
            case Started(twin_of=None) | Switched() | Failed():
                self._proposed.clear()
        if isinstance(event, Failed) and event.fatal:
            self._fatal = event
        self._tell(event)
        if isinstance(event, Progress):  # the engine hears nothing until it has loaded
            self._exchange(0)

    def answer(self, event: Event) -> None:
        """To the one whose command is being obeyed; to everyone where that is what the engine was started for."""
        if self._asker is None:
            self._tell(event)
        else:
            self._send(self._asker, event)

    def record(self, path: str | None, origin: Path | None = None) -> str | None:
        """Write down what happens from now on, as Load.trace wants it, behind a copy of `origin`. Returns the file if
        it is kept. One that cannot be written is told of, and the text goes on without it."""
        file = Path(path) if path else self.path.with_suffix(SUFFIX)
        self._recorder = Recorder(file, lambda sentence: self._tell(Refused(sentence)), origin=origin)
        self._tell_standing()
        return self._recorder.name if path else None

    def close(self) -> None:
        """Finish the record and say goodbye to everyone, as far as they listen."""
        self._recorder.close()
        for left in self.path.parent.glob(f"{self.path.stem}{SUFFIX}*"):
            left.unlink(missing_ok=True)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        for client in self._clients:
            with suppress(LinkClosed):
                client.link.send_final(Dismissed(ENDED))
        end = time.monotonic() + CLOSE_TIMEOUT_S
        while (late := [each.link for each in self._clients if each.link.backlog]) and time.monotonic() < end:
            writable = ready([], late, CLOSE_TIMEOUT_S)[1]
            for link in late:
                if link.fileno() in writable:
                    try:
                        link.flush()
                    except LinkClosed:
                        link.backlog = 0
        for client in self._clients:
            client.link.close()

    # --- Hearing ---------------------------------------------------------------------------------------------

    def hear(self, wait: bool) -> Iterator[Command]:
        """Commands for the engine, waiting for one if `wait`. A leaving is heard as the command that was set for it.
        Of the questions of those who only watch one at a time, so that they do not hold up the text."""
        if self._order:
            self._heed_order(self._order)
        self._exchange(self._patience() if wait and not self._heard and not self._is_due else 0)
        for asker, command in self._heard.take(lambda: self._control):
            self._asker = asker
            yield command
        if self._is_due:
            self._asker, request = self._requests.pop()
            yield request
        self._asker = None
        if self._alone and self._patience() == 0:
            yield Quit()

    def _heed_order(self, order: Load) -> None:
        """Obey the load command that it was started with, before any other. Whoever started it is about to come, and
        is waited for a moment, so that it hears of everything."""
        end = time.monotonic() + STARTER_TIMEOUT_S
        while self._awaited and (left := end - time.monotonic()) > 0:
            self._exchange(left)
        self._heard.put_first(order)
        self._order = None

    @property
    def _is_due(self) -> bool:
        """Whether a text that an application asked for may begin."""
        if not self._requests:
            return False
        standing = self._standing(None)
        return self._requests.due(standing.state, standing.screens)

    @property
    def _alone(self) -> bool:
        return not any(client.follows for client in self._clients)

    def _patience(self) -> float | None:
        """Seconds until there is something to do though nobody says anything; None for never."""
        stays = max(self._keep, FIRST_COMMAND_TIMEOUT_S) if self._awaited else self._keep
        return max(self._alone_since + stays - time.monotonic(), 0) if self._alone else None

    def overtaking(self, wish: Write | None) -> Write | None:
        """The text to begin with: the newest that was asked for since, under the knobs that were set since."""
        return self._heard.overtaking(wish)

    def hears_cancel(self) -> bool:
        """Whether who asked what is computed now, or who is in control, does not want it any more."""
        self._exchange(0)
        return self._heard.cancelled((self._asker, self._control))

    def settle(self, load: Load) -> None:
        """Set how long to stay alone, and what to do then."""
        self._keep, self._on_leave = load.keep, load.on_leave
        self._tell_standing()

    def _exchange(self, timeout: float | None) -> None:
        """Let in, hand over and take in, once something can be. Whoever fails in this is let go alone."""
        heard = [client for client in self._clients if self._may_speak(client)]
        owed = [client for client in self._clients if client.link.backlog or client.missing_events]
        if any(client.link.more for client in heard):
            timeout = 0
        readable, writable = ready(
            [self._listener, *(each.link for each in heard)], [each.link for each in owed], timeout
        )
        # Before leavings are noticed, and greeted together: whoever comes because of what another one was told comes
        # in the next exchange, when what follows from a leaving was obeyed.
        if self._listener.fileno() in readable:
            known = set(self._clients)
            self._listener.admit(self._let_in, self._make_room)
            for client in [each for each in self._clients if each not in known]:
                self._send(client, self._standing(client))
        for client in heard:
            if client.link.more or client.link.fileno() in readable:
                self._with(client, self._receive_from)
        for client in owed:
            if client.link.fileno() in writable:
                self._with(client, lambda each: each.link.flush())
        if missing := [
            client for client in self._clients if client.missing_events and client.link.backlog < MAX_CATCH_UP_BYTES
        ]:
            self._turn += 1
            next_one = self._control if self._control in missing else missing[self._turn % len(missing)]
            self._with(next_one, self._send_backlog)
        while sum(
            each.link.n_buffered_bytes for each in self._clients
        ) > admission.MAX_PENDING_BYTES and self._make_room(MEMORY_FULL):
            pass
        if self._news:
            self._tell_standing()

    def _may_speak(self, client: Client) -> bool:
        """Whoever has much to be obeyed, or does not read what it is told, is heard later."""
        if client is self._control:
            return client.waiting < admission.MAX_PENDING_COMMANDS
        return client.waiting < admission.MAX_PENDING_QUESTIONS and client.link.backlog < admission.MAX_UNREAD_BYTES

    def _with(self, client: Client, act: Callable[[Client], None]) -> None:
        """Do something that may fail for this one only."""
        if client not in self._clients:
            return
        try:
            act(client)
        except LinkClosed as gone:
            self._drop(client, str(gone))
        except Exception as error:
            traceback.print_exc()
            self._drop(client, str(error).split("\n", 1)[0] or type(error).__name__)

    def _receive_from(self, client: Client) -> None:
        for command in client.link.receive():
            self._on_command(client, command)

    def _on_command(self, client: Client, command: Command | Rejected) -> None:
        match command:
            case Rejected():
                self._send(client, Refused(MISTAKEN.format(command.sentence)))
            case Follow():
                client.guest, self._awaited = command.guest, False
                self._start_backlog(client, command.after)
                if self._control is None and not client.guest:
                    self._control = client
                self._news = True
            case TakeControl():
                self._control = client
                self._news = True
            case Write() if command.request:
                self._on_request(client, command)
            case Stop() if command.request:
                if not self._requests.cancel(client, command.request):
                    self._heard.put(client, command)
            case _ if self._control in (client, None) or self._is_open(command) or isinstance(command, Relayed):
                self._heard.put(client, command)
            case _:
                self._send(client, Refused(WATCHES))

    def _on_request(self, client: Client, write: Write) -> None:
        """Let a text wait that an application asks for. Who is in control hears of one that cannot begin yet."""
        if not self._requests.take(client, write):
            self._send(client, Refused(TOO_MANY_WAIT))
        elif self._control is not None and not self._is_due:
            self._send(self._control, Refused(WAITS, notice=True))

    def _is_open(self, command: Command) -> bool:
        """Whether whoever only watches may say it: questions that cost little, and that nobody else hears of."""
        return isinstance(command, AskProbe) and command.name in self.open_probes and not command.record

    def _start_backlog(self, client: Client, after: int = 0) -> None:
        """Tell it what it missed, before it hears what happens."""
        client.live, client.missing_events = False, missing_events(client, self._recorder, after)

    def _send_backlog(self, client: Client) -> None:
        """A slice of what it missed."""
        end = time.monotonic() + CATCH_UP_SLICE_S
        while (missing := client.missing_events) is not None and client.link.backlog < MAX_CATCH_UP_BYTES:
            if time.monotonic() >= end:
                break
            if (event := next(missing, None)) is not None:
                client.link.send(event)
            else:
                client.live, client.missing_events = True, None
                for held in (*self._proposed.values(), self._fatal, self._standing(client)):
                    if held is not None:
                        self._send(client, held)

    # --- Coming and going ------------------------------------------------------------------------------------

    def _let_in(self, link: EngineEnd) -> None:
        if len(self._clients) >= self._most:
            self._make_room()
        self._clients.append(Client(link))

    def _make_room(self, why: str = "") -> bool:
        """Let one go: who never followed before who does, the oldest of them first; never the one in control. Where
        memory is short, the one that holds the most of it."""
        others = [client for client in self._clients if client is not self._control]
        if others:
            by_age = sorted(others, key=lambda client: client.follows)
            self._drop(max(others, key=lambda each: each.link.n_buffered_bytes) if why else by_age[0], why or FULL)
        return bool(others)

    def _standing(self, client: Client | None) -> Standing:
        standing = Standing(
            engine=self.path.stem,
            pid=os.getpid(),
            began=self._began,
            model=None,
            state="starting",
            tokens=0,
            trace=self._recorder.name or "",
            keep=self._keep,
            screens=sum(each.is_screen for each in self._clients),
            in_control=client is not None and client is self._control,
        )
        return replace(self.describe(standing), screens=standing.screens)

    def _tell(self, event: Event) -> None:
        if not (live := [client for client in self._clients if client.live]):
            return
        message = encode(event)
        for client in live:
            if isinstance(event, Step) and event.run in client.lacks:
                continue  # those before it were not told
            if depends_on(event) in client.lacks:
                self._start_backlog(client)
            else:
                self._send_encoded(client, message)

    def _tell_standing(self) -> None:
        """To everyone who is level with what happens; who is not yet hears it then."""
        self._news = False
        for client in tuple(self._clients):
            if client.live:
                self._send(client, self._standing(client))

    def _send(self, client: Client, event: Event) -> None:
        self._send_encoded(client, encode(event))

    def _send_encoded(self, client: Client, message: bytes) -> None:
        try:
            client.link.send_encoded(message)
            if client.link.backlog > MAX_BACKLOG_BYTES:
                client.link.send_final(Dismissed(TOO_SLOW.format(self.path.stem)))
                self._unfollow(client)
        except LinkClosed:
            self._drop(client)

    def _drop(self, client: Client, why: str = "") -> None:
        """Close the link of a client. Where a reason is given, it is sent first."""
        if client not in self._clients:
            return
        self._clients.remove(client)
        if why:
            with suppress(LinkClosed):
                client.link.send_final(Dismissed(LET_GO.format(why, self.path.stem)))
        client.link.close()
        self._unfollow(client)

    def _unfollow(self, client: Client) -> None:
        """Tell it nothing any more. The oldest screen takes over from one that was in control."""
        followed, was_screen = client.follows, client.is_screen
        client.live, client.missing_events = False, None
        if (stop := self._requests.leave(client)) is not None:
            self._heard.put(None, stop)
        if client is self._control:
            self._control = next((each for each in self._clients if each.is_screen), None)
        if followed and self._alone:
            self._alone_since = time.monotonic()
        if was_screen:
            self._news = True
            if (leaving := LEAVING[self._on_leave]) and not any(each.is_screen for each in self._clients):
                self._heard.put(None, leaving)
