"""Frame: what a repaint sees. View: the abstract widget that draws one and repaints only rows that changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.markup import escape
from textual.filter import LineFilter
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui_entropy.ui.drawing.glyphs import visible
from tui_entropy.ui.drawing.line_filter import InAscii, WithoutControls
from tui_entropy.ui.drawing.paint import Group, Part
from tui_entropy.ui.views.frame import Frame

LIGHT, HEAVY = 1 / 20, 1 / 4
"""Paces of views that cost little and of those that cost much."""


class View(Widget):
    """A pane drawn from a frame and a size, a row at a time.

    `draw` is a pure function of the frame and the size (and, at most, of how far the view is scrolled). `show`
    compares its rows with what is on screen and asks only for those that differ, so a repaint without news sends
    no bytes.
    """

    PACE: ClassVar[float] = LIGHT
    """Seconds between two repaints for what the engine sent. Keys repaint at once."""

    TRUST: ClassVar[str] = ""
    """The group of numbers that it shows (TRUSTED), whose mark stands in its title."""

    ABOUT: ClassVar[str] = ""
    """What its words mean, for the mouse over it and for the help."""

    OF_STEP: ClassVar[bool] = False
    """Of two lanes it shows the one that a person looks at."""

    @dataclass
    class CursorAsked(Message):
        """A person wants to look at another step."""

        index: int

    @dataclass
    class HeadAsked(Message):
        """A person wants to look at another layer and head (1-based; None for the mean of heads)."""

        layer: int
        head: int | None

    @dataclass
    class KnobAsked(Message):
        """A person chose a knob of the strip."""

        name: str

    @dataclass
    class TokenAsked(Message):
        """A person chose a token: 0 is the written one, n the n-th candidate."""

        token: int

    @dataclass
    class RowAsked(Message):
        """A person chose a row of a list."""

        row: int

    @dataclass
    class VectorAsked(Message):
        """A person wants a vector switched on or off."""

        index: int

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.tooltip = escape(self.ABOUT) or None
        self._frame: Frame | None = None
        self._rows: list[Strip] = []

    @property
    def frame(self) -> Frame | None:
        """The last one that was shown, on what its log holds by now; None before the first."""
        return self._frame and self._frame.fitted

    @frame.setter
    def frame(self, frame: Frame | None) -> None:
        self._frame = frame

    @abstractmethod
    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """At most `height` strips of at most `width` cells, titles included. Missing rows are blank."""

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        """The changes of a frame when a person goes `by` rows down; none where a view has no rows."""
        return {}

    def heading(
        self, frame: Frame, name: str, groups: Iterable[Group], width: int, right: str | list[Part] = ""
    ) -> Strip:
        """The title row: bright with the focus. Numbers that are not exact are marked, with a word where it fits."""
        paint, trust = frame.paint, frame.trust(self.TRUST)
        first = [(name, paint.focused if self.has_focus else paint.title)]
        if trust and trust.level != "exact":
            mark, style = paint.trusted[trust.level]
            first.append((mark, style))
            groups = ([(trust.level, style)], *groups)
        return paint.whole(first, groups, width, right)

    def missing(self, frame: Frame) -> str:
        """Why its numbers cannot be had on this model and machine; empty where they can."""
        trust = frame.trust(self.TRUST)
        return visible(trust.reason, frame.paint.ascii, True) if trust and trust.level == "unavailable" else ""

    def show(self, frame: Frame) -> None:
        """Take a frame and repaint the rows that it changes."""
        self.frame = frame.beside if self.OF_STEP and frame.second else frame
        self.redraw()

    def redraw(self) -> None:
        """Draw the last frame again, for another size, focus or scroll position."""
        frame = self.frame
        if frame is None or not self.size or not self.display:
            return
        before, self._rows = self._rows, self._drawn(frame)
        if len(before) != len(self._rows):
            self.refresh()
            return
        rows = [y for y, old in enumerate(before) if old != self._rows[y]]
        if rows and (shortcut := getattr(self.app, "shortcut", None)):
            shortcut.take(self, rows)
        elif rows:
            self.refresh(*(Region(0, y, changed_width(before[y], self._rows[y]), 1) for y in rows))

    def _drawn(self, frame: Frame) -> list[Strip]:
        width, height = self.size
        ground = frame.paint.ground
        blank = Strip.blank(width, ground)
        rows = [strip.adjust_cell_length(width, ground) for strip in self.draw(frame, width, height)]
        return (rows + [blank] * (height - len(rows)))[:height]

    def render_line(self, y: int) -> Strip:
        if y < len(self._rows):
            return self._rows[y]
        return Strip.blank(self.size.width, self.frame.paint.base if self.frame else None)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Without Textual's cache of lines, which is slow and does not hear of what takes the shortcut."""
        if self.gutter:
            self._styles_cache.clear()
            return super().render_lines(crop)
        strips = [self.render_line(y) for y in crop.line_range]
        background = self.background_colors[1]
        for filter in self.get_line_filters():
            strips = [strip.apply_filter(filter, background) for strip in strips]
        return (
            strips
            if crop.column_span == (0, self.size.width)
            else [strip.crop(*crop.column_span) for strip in strips]
        )

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters without ours: a view draws glyphs for controls itself, and ASCII where that is wanted but
        for a model's own words."""
        return [each for each in super().get_line_filters() if not isinstance(each, InAscii | WithoutControls)]

    def on_resize(self) -> None:
        self._rows = []
        self.redraw()

    def on_show(self) -> None:
        self.redraw()

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()


def changed_width(old: Strip, new: Strip) -> int:
    """Cells from the left edge of a row to the last one that differs. Only what is right of it can be left unsent."""
    width = new.cell_length
    for before, now in zip(reversed(list(old)), reversed(list(new)), strict=False):
        if before == now:
            width -= now.cell_length
            continue
        if before.style == now.style and before.text.isspace() and now.text.isspace():
            width -= min(len(before.text), len(now.text))
        break
    return max(width, 1)


def around(at: int, total: int, room: int) -> slice:
    """The rows, of so many, that there is room for around the one that must be seen."""
    first = min(max(at - room // 2, 0), max(total - room, 0))
    return slice(first, first + room)
