"""The endpoint's end of an engine: texts asked for one at a time, and what the engine tells of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tui_entropy.openai_api.errors import ApiError
from tui_entropy.records.commands import Follow, Relayed, Stop, Write
from tui_entropy.records.events import Ended, Event, Failed, Ready, Refused, Standing, Started, Switched
from tui_entropy.records.step import Step
from tui_entropy.transport.async_client import EngineProcess

MAX_BACKLOG_BYTES = 64 * 2**20
MAX_WAITING = 32
"""Requests that may wait for the one that is answered, itself included."""


class Text:
    """One text that is asked for: how it began, and what is written of it."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.started: Started
        self.over = False
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def hear(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def begun(self) -> Started:
        """How it began. Raises ApiError where it does not."""
        while True:
            match event := await self._events.get():
                case Started(request=self.write.request):
                    self.started = event
                    return event
                case Refused(notice=False):
                    self.over = True
                    raise ApiError(400, event.sentence)
                case Failed():
                    raise ApiError(500, f"the engine failed: {event.sentence}")

    async def next(self) -> Step | Ended:
        """The next token, or the end. Raises ApiError where it came to none."""
        run = self.started.run
        while True:
            match event := await self._events.get():
                case Step(run=at) | Ended(run=at) if at == run:
                    self.over = isinstance(event, Ended)
                    if isinstance(event, Ended) and event.failed:
                        raise ApiError(500, f"the text ended, as there was {event.reason}")
                    return event
                case Failed():
                    self.over = True
                    raise ApiError(500, f"the engine failed: {event.sentence}")
                case Started() if event.twin_of is None:
                    raise ApiError(503, LEFT)
                case Switched() if event.run != run:
                    raise ApiError(503, LEFT)


LEFT = "somebody at the inspector left this text for another one before it had ended"


class Engine:
    """An engine that runs. Made and used on one event loop."""

    def __init__(self, socket: Path) -> None:
        self.lost = ""
        """Why it is gone; empty while it is there."""
        self.gone = asyncio.Event()
        self.standing: Standing | None = None
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._text: Text | None = None
        self._turn, self._n_waiting = asyncio.Lock(), 0
        self._unheard: set[str] = set()
        """Requests that passed and of which it is told nothing more."""
        self._process = EngineProcess((), self._take, self._lose)
        self._process.attach(socket)
        self._process.send(Follow(guest=True))

    def close(self) -> bool:
        """Leave it; it ends where no screen looks on. Whether it did."""
        watched = self.standing is not None and self.standing.screens > 0
        if not self.lost:
            (self._process.leave if watched else self._process.close)()
        return not watched

    def tell(self, part: Relayed) -> None:
        """Tell it what passed; of an engine that is gone nobody hears. One that does not keep up is told no more of
        that request but its end."""
        if self._process.backlog > MAX_BACKLOG_BYTES:
            self._unheard.add(part.request)
        if part.request not in self._unheard:
            self._process.send(part)
        elif part.ended:
            self._unheard.discard(part.request)
            self._process.send(Relayed(part.request, at=part.at, ended="the engine did not keep up"))

    @asynccontextmanager
    async def text(self, write: Write) -> AsyncIterator[Text]:
        """A text that is asked for, in its turn. What is not over at the end is stopped. Raises ApiError."""
        if self._n_waiting >= MAX_WAITING:
            raise ApiError(429, f"{MAX_WAITING} requests wait already: ask again later")
        self._n_waiting += 1
        try:
            async with self._turn:
                if self.lost:
                    raise ApiError(503, self.lost)
                text = self._text = Text(write)
                self._process.send(write)
                try:
                    yield text
                finally:
                    self._text = None
                    if not text.over:
                        self._process.send(Stop(write.request))
        finally:
            self._n_waiting -= 1

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Standing):
                self.standing = event
            elif isinstance(event, Ready) and not self.ready.done():
                self.ready.set_result(event)
            if self._text is not None:
                self._text.hear(event)

    def _lose(self, why: str) -> None:
        self.lost = why
        self.gone.set()
        if not self.ready.done():
            self.ready.set_exception(ApiError(503, why))
        if self._text is not None:
            self._text.hear(Failed(why, fatal=True))
