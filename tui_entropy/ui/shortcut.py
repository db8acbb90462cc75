"""Rows that changed, on the shortest way to the terminal.

Textual repaints on a timer: by messages, a compositor that puts every pane together anew, and text full of escape
sequences. Where a pane lies open on the screen that is shown, its rows go straight to the driver, as soon as whatever
changed them is done. Where it does not, and for all but panes, Textual paints; both write through one Differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from textual.app import App
from textual.geometry import Offset, Region
from textual.screen import Screen
from textual.strip import Strip

from tui_entropy.ui.view import View


class Shortcut:
    """Takes rows until the event loop comes round, then sends them in one frame."""

    def __init__(self, app: App[Any], paint: Callable[[list[tuple[int, int, Strip]]], None]) -> None:
        """paint: takes rows, each with its place (y, x), from the top to the bottom."""
        self._app, self._send = app, paint
        self._changed: dict[View, set[int]] = {}

    def take(self, view: View, rows: Iterable[int]) -> None:
        """These rows of a view are to be painted."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._paint)
        self._changed.setdefault(view, set()).update(rows)

    def _paint(self) -> None:
        changed, self._changed = self._changed, {}
        lines: list[tuple[int, int, Strip]] = []
        for view, rows in changed.items():
            if (at := self._open(view)) is None:
                view.refresh(*(Region(0, y, view.size.width, 1) for y in rows))
            else:
                lines += ((at.y + y, at.x, view.render_line(y)) for y in rows if y < view.size.height)
        if lines:
            self._send(sorted(lines, key=itemgetter(0, 1)))

    def _open(self, view: View) -> Offset | None:
        """Where a view begins on the terminal, if nothing lies over it and its rows are as wide as it is."""
        app, screen = self._app, view.screen
        if not app.is_running or app._batch_count or screen is not app.screen:
            return None
        content = view.content_region
        if view.render_line(0).cell_length != content.width:
            return None
        return content.offset if _uncovered(screen, view) else None


def _uncovered(screen: Screen[Any], view: View) -> bool:
    panes = screen._compositor.visible_widgets  # the uppermost first
    if view not in panes:
        return False
    region, clip = panes[view]
    for over, (there, _) in panes.items():
        if over is view:
            break
        if there.overlaps(region) and over not in view.ancestors:
            return False
    return clip.contains_region(region)
