"""When panes are painted: what a person asked for at once, what the engine tells at the pace of each pane."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tui_entropy.ui.terminal.pacing import Pacer
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import LIGHT, View

FRAMES_PER_ROUND = 5
"""Frames of data that a round of all heavy panes is spread over."""


class Painted(Protocol):
    """The app, as far as painting it goes."""

    frame: Frame

    @property
    def clock(self) -> asyncio.AbstractEventLoop: ...
    @property
    def views(self) -> Sequence[View]: ...
    def take_in(self) -> bool: ...
    def show(self, **changes: Any) -> None: ...
    def call_later(self, callback: Callable[..., Any], *args: Any) -> bool: ...
    def on_all_shown(self) -> None: ...


class RepaintScheduler:
    """Knows what is due and sets one timer for it. Nothing due, no timer.

    The app has what is to be painted: `take_in` folds what has come into its frame, `show` paints the light panes,
    `views` are all of them, and `on_all_shown` is called once every pane shows the newest frame.
    """

    def __init__(self, app: Painted) -> None:
        self._app = app
        self.timed = True
        """False where every pane is shown by whoever shows the frames, as for a film."""
        self.pacer = Pacer()
        """Of the terminal; in a terminal that cannot be asked, one that never waits."""
        self._alarm: asyncio.TimerHandle | None = None
        self._light_at = self._heavy_at = -math.inf
        self._heavy_due = math.inf
        self._at_once = False
        """A person waits for the heavy panes."""
        self._share = 1
        """Heavy panes that ride along with a frame of data."""
        self._owed = False
        """Data has come that no pane shows yet."""
        self._to_show: list[View] = []
        """Heavy panes that do not show the newest frame yet."""

    @property
    def idle(self) -> bool:
        """Nothing is due."""
        return self._alarm is None and not self._to_show

    def data_soon(self) -> None:
        """Data has come: a moment later it is taken in, and shown together."""
        self._arm(self._light_at + LIGHT)

    def heavy_soon(self, at_once: bool = False) -> None:
        """Heavy panes are behind. at_once: a person waits for them."""
        self._at_once = self._at_once or at_once
        pace = 0 if at_once else max((view.PACE for view in self._app.views), default=LIGHT)
        due = max(self._heavy_at + pace, self._now)
        self._heavy_due = min(self._heavy_due, due)
        self._arm(self._heavy_due)

    def level(self) -> None:
        """The terminal shows what it was sent."""
        if self._owed or self._heavy_due < math.inf:
            self._arm(max(min(self._light_at + LIGHT, self._heavy_due), self._now))

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None

    def drain(self) -> None:
        """Take in what has come, and paint what is due."""
        app = self._app
        self._owed = app.take_in() or self._owed
        if wait := self.pacer.wait():
            self._arm(self._now + wait)
            return
        if self._owed:
            self._owed, self._light_at = False, self._now
            app.show(terminal=self.pacer.gauge())
            self.pacer.wanted = True
        due = self._heavy_due <= self._now + 0.001
        if self._to_show and not (due and self._at_once):
            self._ride()
        elif due:
            self.show_heavy()
        if self._heavy_due < math.inf:
            self._arm(self._heavy_due)

    def show_heavy(self) -> None:
        """A few at a time, so that a key in between waits for one pane and not for all. Each that a person asked for
        has a frame of its own, at once; those that only follow the data ride along with its frames."""
        self._heavy_at, self._heavy_due = self._now, math.inf
        self._to_show = [view for view in self._app.views if view.PACE > LIGHT]
        if self._at_once:
            self._at_once = False
            self._app.call_later(self._show_next)
        else:
            self._share = -(-len(self._to_show) // FRAMES_PER_ROUND)
            self._ride()

    @property
    def _now(self) -> float:
        return self._app.clock.time()

    def _arm(self, at: float) -> None:
        """See to it that `drain` runs at that time of the loop's clock or before."""
        if not self.timed:
            return
        if self._alarm is not None:
            if self._alarm.when() <= at:
                return
            self._alarm.cancel()
        self._alarm = self._app.clock.call_at(at, self._ring)

    def _ring(self) -> None:
        self.stop()
        self._app.call_later(self.drain)

    def _ride(self) -> None:
        for _ in range(min(self._share, len(self._to_show))):
            self._to_show.pop().show(self._app.frame)
        if self._to_show:
            self._arm(self._now + LIGHT)
        else:
            self._on_all_shown()

    def _show_next(self) -> None:
        if self._to_show:
            self._to_show.pop().show(self._app.frame)
        if self._to_show:
            self._app.call_later(self._show_next)
        else:
            self._on_all_shown()

    def _on_all_shown(self) -> None:
        self.pacer.wanted = True
        self._app.on_all_shown()
