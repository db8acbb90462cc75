"""Rows that changed, on the shortest way to the terminal.

Textual repaints on a timer: by messages, a compositor that puts every pane together anew, and text full of escape
sequences. Where a pane lies open on the screen that is shown, its rows go straight to the driver, as soon as whatever
changed them is done. Where it does not, and for all but panes, Textual paints; both write through one Differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

from textual.app import App
from textual.geometry import Offset, Region
from textual.screen import Screen
from textual.strip import Strip

from tui_entropy.ui.terminal.pacing import Pacer
from tui_entropy.ui.views.view import LIGHT, View


class Shortcut:
    """Takes rows until the event loop comes round, then sends them in one frame. Data that this has no room for goes
    with the next data, first, as it looks then.

    paint: takes rows, each with its place (y, x), as far as there is room.
    """

    def __init__(
        self, app: App[Any], paint: Callable[[Iterator[tuple[int, int, Strip]]], None], pacer: Pacer
    ) -> None:
        self._app, self._send, self._pacer = app, paint, pacer
        self._changed: dict[tuple[View, int], None] = {}
        self._late: dict[tuple[View, int], None] = {}
        self._due: asyncio.Handle | None = None

    def take(self, view: View, rows: Iterable[int]) -> None:
        """These rows of a view are to be painted."""
        if not self._changed:
            self._call(asyncio.get_running_loop().call_soon(self._paint))
        self._changed.update(dict.fromkeys((view, y) for y in rows))

    def _call(self, due: asyncio.Handle) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = due

    def _paint(self) -> None:
        changed, self._changed = self._changed, {}
        late = self._late if self._pacer.wanted else {}
        new = [one for one in changed if one not in late]
        later = [one for one in self._late if one not in late and one not in changed]
        places = {view: self._open(view) for view, _ in [*late, *new]}
        lines: list[tuple[int, int, View, int]] = []
        for rows in (late, new):
            here = [(at.y + y, at.x, view, y) for view, y in rows if (at := places[view]) is not None]
            lines += sorted((line for line in here if line[3] < line[2].size.height), key=itemgetter(0, 1))
        for view in (view for view, at in places.items() if at is None):
            view.refresh(*(Region(0, y, view.size.width, 1) for whose, y in [*late, *new] if whose is view))
        left = iter(lines)
        if lines:
            self._send((y, x, view.render_line(row)) for y, x, view, row in left)
        self._late = dict.fromkeys([*((view, row) for _, _, view, row in left), *later])
        if self._late:
            self._call(asyncio.get_running_loop().call_later(LIGHT, self._go_on))

    def _go_on(self) -> None:
        """With what is late, where no other data came."""
        if wait := self._pacer.wait():
            self._call(asyncio.get_running_loop().call_later(wait, self._go_on))
        else:
            self._pacer.wanted = True
            self._paint()

    def _open(self, view: View) -> Offset | None:
        """The place of a view on the terminal, if nothing lies over it and its rows are as wide as it is."""
        app = self._app
        if not (app.is_running and view.is_attached) or app._batch_count or view.screen is not app.screen:
            return None
        content = view.content_region
        if view.render_line(0).cell_length != content.width:
            return None
        return content.offset if _uncovered(app.screen, view) else None


def _uncovered(screen: Screen[Any], view: View) -> bool:
    panes = screen._compositor.visible_widgets  # the uppermost first, those around a view behind it
    if view not in panes:
        return False
    region, clip = panes[view]
    for over, (there, _) in panes.items():
        if over is view:
            break
        if there.overlaps(region):
            return False
    return clip.contains_region(region)
