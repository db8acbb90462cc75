"""Views on lists of which one row is chosen."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from textual import events
from textual.strip import Strip

from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import View, around

ABOVE = 2
"""Rows over the list: the title, and the names of its columns."""


class ListView(View):
    """One row is chosen, and in view. A click chooses one."""

    @abstractmethod
    def last(self, frame: Frame) -> int:
        """The last row that can be chosen; 0 or less where there is none or one."""

    @abstractmethod
    def window(self, frame: Frame, height: int) -> range:
        """The rows that are shown."""

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        return {"row": min(max(frame.row + by, 0), max(self.last(frame), 0))}

    def on_click(self, event: events.Click) -> None:
        if self.frame is not None:
            shown = self.window(self.frame, self.size.height)
            if ABOVE <= event.y < ABOVE + len(shown):
                self.post_message(self.RowAsked(shown[event.y - ABOVE]))


class Rows(ListView):
    """A list that a person changes: the row after the last adds to it."""

    @abstractmethod
    def items(self, frame: Frame) -> int:
        """The number of rows."""

    @abstractmethod
    def item(self, frame: Frame, at: int, width: int, chosen: bool) -> list[Part]:
        """The text of a row, right of its mark."""

    def last(self, frame: Frame) -> int:
        """The last row: beyond the list where something can be added to it, or where it is empty."""
        return max(self.items(frame) - ("add_row" in frame.lacking), 0)

    def listed(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """The rows that there is room for."""
        return [frame.paint.row(self._item(frame, at, width), width) for at in self.window(frame, height)]

    def window(self, frame: Frame, height: int) -> range:
        """At most half of the view; the chosen one is in it."""
        total = self.last(frame) + 1
        count = max(min(total, height // 2 - ABOVE), 1)
        return range(total)[around(frame.row, total, count)]

    def _item(self, frame: Frame, at: int, width: int) -> list[Part]:
        paint, total = frame.paint, self.items(frame)
        chosen = at == min(frame.row, self.last(frame))
        mark: Part = (paint.drawn if chosen else " ", paint.accent)
        if at < total:
            return [mark, *self.item(frame, at, width, chosen)]
        if "add_row" in frame.lacking:
            return [mark, ("  none", paint.dim)]
        return [mark, ("  +  ", paint.accent), ("a adds one", paint.selected if chosen else paint.dim)]
