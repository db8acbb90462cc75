"""Keys and clicks in the order in which they came: one is looked at when all that the one before it did is there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from textual import events
from textual.app import App
from textual.errors import NoWidget
from textual.message_pump import MessagePump

HANDLED_S, PUT_OFF_S = 5.0, 1.0
"""Seconds after which the next is looked at, whatever the one before it still does or has put off."""


class InputOrder:
    """Hands the app what a person did, one after the other.

    A terminal delivers several keys in one read, and Textual sends all of them to the widget that has the focus at
    that moment. So of "j", "1", "2", "enter" the digits would go to the text and not to the box that "j" opens, and
    Enter, which the app hears at once, would overtake digits that are on their way to the box.

    An event is done with when it has gone up from the widget that got it to the app, through the queue of each
    (`_passed`), and what was put off because of it has run (`put_off`).
    """

    def __init__(self, app: App[Any], look_at: Callable[[events.Event], Awaitable[None]]) -> None:
        self._app, self._look_at = app, look_at
        self._waiting: deque[events.Event] = deque()
        self._settling: asyncio.Task[None] | None = None
        self._put_off: set[asyncio.Event] = set()

    @property
    def idle(self) -> bool:
        """All that came is done with."""
        return self._settling is None and not self._waiting

    async def add(self, event: events.Event) -> None:
        """Called by the app for each event that it gets from its terminal."""
        if isinstance(event, events.MouseMove):  # does nothing but what the next one does again
            await self._look_at(event)
        elif self._settling is None:
            await self._begin(event)
        else:
            self._waiting.append(event)

    def put_off(self, callback: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """The callback, waited for from now until it has run."""
        done = asyncio.Event()
        self._put_off.add(done)

        async def run() -> None:
            try:
                await callback()
            finally:
                done.set()
                self._put_off.discard(done)

        return run

    async def _begin(self, event: events.Event) -> None:
        receiver = self._receiver(event)
        await self._look_at(event)
        self._settling = asyncio.create_task(self._settle(receiver))

    def _receiver(self, event: events.Event) -> MessagePump:
        if isinstance(event, events.MouseEvent):
            with suppress(NoWidget):
                return self._app.get_widget_at(event.x, event.y)[0]
        return self._app.focused or self._app.screen

    async def _settle(self, receiver: MessagePump) -> None:
        try:
            async with asyncio.timeout(HANDLED_S):
                pump: MessagePump | None = receiver
                while pump is not None:
                    await self._passed(pump)
                    pump = pump._parent
                await self._passed(self._app.screen)  # one that was opened gives a widget the focus
            async with asyncio.timeout(PUT_OFF_S):
                while self._put_off:
                    await next(iter(self._put_off)).wait()
                    await self._passed(self._app)
        except TimeoutError:
            self._put_off.clear()  # what a screen that is gone was to call is never called
        finally:
            self._app.post_message(events.Callback(callback=self._next))

    async def _passed(self, pump: MessagePump) -> None:
        """Return once all that is in its queue now was handled."""
        passed = asyncio.Event()
        if pump.post_message(events.Callback(callback=passed.set)):
            await passed.wait()

    async def _next(self) -> None:
        self._settling = None
        if self._waiting:
            await self._begin(self._waiting.popleft())
