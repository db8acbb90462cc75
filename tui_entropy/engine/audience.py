"""Everyone who watches one engine: let in, told what happens, heard, and let go. No torch, and one thread.

One screen is in control, the others watch: what they command is refused, what they ask is answered. Each first hears
what was recorded before it came, as far as it does not know it, and then what happens; the order of the record makes
one of the two. Of all that was written it hears only what the text that is looked at is made of; if it is about to
need more, it hears everything from the beginning once more. A screen that does not read is let go, so that neither
the engine nor the others wait for it.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket

from msgspec.structs import replace

from tui_entropy.link import EngineEnd, LinkClosed, accept, listen
from tui_entropy.recorder import Recorder
from tui_entropy.records import (
    AskAttention,
    Command,
    Dismissed,
    Ended,
    Event,
    Failed,
    Follow,
    Load,
    Pause,
    Progress,
    Proposed,
    Quit,
    Refused,
    Standing,
    Started,
    Step,
    Stop,
    Switched,
    TakeControl,
)
from tui_entropy.schema import SUFFIX
from tui_entropy.trace import Trace

SLOW = 32 * 2**20
"""Bytes that may wait for a screen."""
AHEAD = 2**20
"""Bytes of what it missed that may wait for it."""
SLICE = 0.02
"""Seconds that telling one screen what it missed may take between two tokens."""
PATIENCE = 60.0
"""Seconds for the first order to come; a screen that was killed before never gives it."""
FAREWELL = 0.2
"""Seconds that the last words may take."""

WATCHES = "another screen is in control of this engine: ctrl+g takes control"
TOO_SLOW = "the engine let this screen go, as it did not read for too long: `tui-entropy attach {}` comes back"
ENDED = "the engine was ended from another screen, by `tui-entropy stop` or by a signal"
LEAVING: dict[str, Command | None] = {"write": None, "pause": Pause("the last screen left"), "stop": Stop()}
"""One of records.ON_LEAVE -> what it commands."""


@dataclass(eq=False, slots=True)
class Watcher:
    """One end of a link. Whoever does not follow only asks how the engine stands, or gives an order and leaves."""

    link: EngineEnd
    live: bool = False
    """Hears what happens as it happens."""
    missed: Iterator[Event] | None = None
    """What it hears before that."""
    lacks: frozenset[int] = frozenset()
    """Runs whose steps it was not told."""
    guest: bool = False

    @property
    def follows(self) -> bool:
        return self.live or self.missed is not None

    @property
    def is_screen(self) -> bool:
        return self.follows and not self.guest


def needs(event: Event) -> int | None:
    """The run whose steps must be known to make sense of it."""
    match event:
        case Started():
            return event.parent
        case Switched():
            return event.run
    return None


class Audience:
    def __init__(self, path: Path) -> None:
        """Listens from now on. Raises UserError where no private socket can be had."""
        self.path = path
        self.describe: Callable[[Standing], Standing] = lambda standing: standing
        """Fills in what the engine knows of itself."""
        self._server = listen(path)
        self._watchers: list[Watcher] = []
        self._control: Watcher | None = None
        self._asker: Watcher | None = None
        """Whose command is being obeyed."""
        self._heard: deque[tuple[Watcher | None, Command]] = deque()
        self._keep, self._on_leave = PATIENCE, "write"
        self._alone_since = time.monotonic()
        self._began = time.time()
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
        self._tell(event)
        if isinstance(event, Progress):  # the engine hears nothing until it has loaded
            self._exchange(0)

    def answer(self, event: Event) -> None:
        """To the one whose command is being obeyed."""
        if self._asker is not None:
            self._send(self._asker, event)

    def record(self, path: str | None) -> str | None:
        """Write down what happens from now on, as Load.trace wants it. Returns the file if it is kept.

        One that cannot be written is told of, and the text goes on without it."""
        passing = self.path.with_suffix(SUFFIX)
        self._recorder = Recorder(Path(path) if path else passing, lambda sentence: self._tell(Refused(sentence)))
        self._tell_standing()
        return self._recorder.name if path else None

    def close(self) -> None:
        """Finish the record and say goodbye to everyone, as far as they listen."""
        self._recorder.close()
        for left in self.path.parent.glob(f"{self.path.stem}{SUFFIX}*"):
            left.unlink(missing_ok=True)
        self._server.close()
        self.path.unlink(missing_ok=True)
        for watcher in self._watchers:
            with suppress(LinkClosed):
                watcher.link.last_word(Dismissed(ENDED))
        end = time.monotonic() + FAREWELL
        while (late := [each.link for each in self._watchers if each.link.backlog]) and time.monotonic() < end:
            _, writable, _ = select.select([], late, [], FAREWELL)
            for link in writable:
                with suppress(LinkClosed):
                    link.flush()
        for watcher in self._watchers:
            watcher.link.close()

    # --- Hearing ---------------------------------------------------------------------------------------------

    def hear(self, wait: bool) -> Iterator[Command]:
        """What the engine is to do, waiting for something if told to. Leaving is heard as what was set for it."""
        self._exchange(self._patience() if wait else 0)
        while self._heard:
            self._asker, command = self._heard.popleft()
            if isinstance(command, Load):
                self._keep, self._on_leave = command.keep, command.on_leave
                self._tell_standing()
            yield command
        self._asker = None
        if self._alone and time.monotonic() - self._alone_since >= self._keep:
            yield Quit()

    @property
    def _alone(self) -> bool:
        return not any(watcher.follows for watcher in self._watchers)

    def _patience(self) -> float | None:
        """Seconds until there is something to do though nobody says anything; None for never."""
        return max(self._alone_since + self._keep - time.monotonic(), 0) if self._alone else None

    def _exchange(self, timeout: float | None) -> None:
        """Let in, hand over and take in, once something can be."""
        links: list[EngineEnd | socket] = [self._server, *(watcher.link for watcher in self._watchers)]
        owed: list[EngineEnd | socket] = [
            watcher.link for watcher in self._watchers if watcher.link.backlog or watcher.missed
        ]
        readable, writable, _ = select.select(links, owed, [], timeout)
        for watcher in tuple(self._watchers):
            if watcher not in self._watchers:
                continue
            try:
                if watcher.link in writable:
                    watcher.link.flush()
                    self._catch_up(watcher)
                if watcher.link in readable:
                    for command in watcher.link.receive():
                        self._heed(watcher, command)
            except LinkClosed:
                self._part(watcher)
        if self._server in readable and (link := accept(self._server)):
            self._watchers.append(watcher := Watcher(link))
            self._send(watcher, self._standing(watcher))

    def _heed(self, watcher: Watcher, command: Command) -> None:
        match command:
            case Follow():
                watcher.guest = command.guest
                self._bring_up(watcher, command.after)
                if self._control is None and not watcher.guest:
                    self._control = watcher
                self._tell_standing()
                self._catch_up(watcher)
            case TakeControl():
                self._control = watcher
                self._tell_standing()
            case _ if self._control in (watcher, None) or isinstance(command, AskAttention):
                self._heard.append((watcher, command))
            case _:
                self._send(watcher, Refused(WATCHES))

    def _bring_up(self, watcher: Watcher, after: int = 0) -> None:
        """Tell it what it missed, before it hears what happens."""
        watcher.live, watcher.missed = False, self._missed(watcher, after)

    def _missed(self, watcher: Watcher, after: int) -> Iterator[Event]:
        """What was recorded after a seq, until nothing has happened since the record was looked at last."""
        watcher.lacks = frozenset()
        if self._recorder.path is None:
            return
        self._recorder.flush()  # so that it says by which model
        with closing(Trace.open(self._recorder.path)) as trace:
            level = False
            while not level:
                level = True
                self._recorder.flush()
                first = not after
                if first:
                    watcher.lacks = trace.apart()
                for seq, event in trace.since(after, watcher.lacks):
                    level = False
                    if not first and needs(event) in watcher.lacks:
                        after = 0
                        break
                    after = seq
                    yield event

    def _catch_up(self, watcher: Watcher) -> None:
        """A slice of what it missed."""
        end = time.monotonic() + SLICE
        while watcher.missed is not None and watcher.link.backlog < AHEAD and time.monotonic() < end:
            if (event := next(watcher.missed, None)) is not None:
                watcher.link.send(event)
            else:
                watcher.live, watcher.missed = True, None
                for held in self._proposed.values():
                    self._send(watcher, held)
                self._send(watcher, self._standing(watcher))

    # --- Coming and going ------------------------------------------------------------------------------------

    def _standing(self, watcher: Watcher) -> Standing:
        standing = Standing(
            engine=self.path.stem,
            pid=os.getpid(),
            began=self._began,
            model=None,
            state="starting",
            tokens=0,
            trace=self._recorder.name or "",
            keep=self._keep,
            screens=sum(each.is_screen for each in self._watchers),
            in_control=watcher is self._control,
        )
        return replace(self.describe(standing), screens=standing.screens)

    def _tell(self, event: Event) -> None:
        for watcher in tuple(self._watchers):
            if watcher.live and needs(event) in watcher.lacks:
                self._bring_up(watcher)
            elif watcher.live:
                self._send(watcher, event)

    def _tell_standing(self) -> None:
        """To everyone who is level with what happens; who is not yet hears it then."""
        for watcher in tuple(self._watchers):
            if watcher.live:
                self._send(watcher, self._standing(watcher))

    def _send(self, watcher: Watcher, event: Event) -> None:
        try:
            watcher.link.send(event)
            if watcher.link.backlog > SLOW:
                watcher.link.last_word(Dismissed(TOO_SLOW.format(self.path.stem)))
                self._unfollow(watcher)
        except LinkClosed:
            self._part(watcher)

    def _part(self, watcher: Watcher) -> None:
        """It hung up."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
            watcher.link.close()
            self._unfollow(watcher)

    def _unfollow(self, watcher: Watcher) -> None:
        """Tell it nothing any more. The oldest screen takes over from one that was in control."""
        followed, was_screen = watcher.follows, watcher.is_screen
        watcher.live, watcher.missed = False, None
        if watcher is self._control:
            self._control = next((each for each in self._watchers if each.is_screen), None)
        if followed and self._alone:
            self._alone_since = time.monotonic()
        if was_screen:
            self._tell_standing()
            leaving = LEAVING[self._on_leave]
            if leaving and not any(each.is_screen for each in self._watchers):
                self._heard.append((None, leaving))
