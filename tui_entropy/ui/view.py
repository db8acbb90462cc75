"""Frame: what a repaint sees. View: the abstract widget that draws one and repaints only rows that changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from textual.filter import LineFilter
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui_entropy.log import Log
from tui_entropy.records import AskFan, Candidate, Knobs, Lane, Step, Trust, Vector
from tui_entropy.series import BY_NAME, SERIES, Series
from tui_entropy.ui.glyphs import visible
from tui_entropy.ui.line_filter import InAscii
from tui_entropy.ui.paint import Paint, Part


@dataclass(frozen=True, slots=True)
class Frame:
    """The log, where the cursor is, and how the person wants to see it. Read-only for views."""

    log: Log
    paint: Paint
    cursor: int | None = None
    """The step that every pane shows; None before the first."""
    following: bool = True
    """The cursor stays on the newest step."""
    tint: Series = SERIES[0]
    charted: tuple[Series, ...] = (BY_NAME["entropy"], BY_NAME["varentropy"])
    """What the chart shows beside the tint."""
    chosen: Series = SERIES[0]
    """The row of the numbers page that its keys act on."""
    token: int = 0
    """What is chosen at the step under the cursor: 0 is the written token, n the n-th candidate."""
    row: int = 0
    """Of the page that is open: its chosen row (the one after the last of a list adds to it), or of a diff how many
    lines below the parting is looked at."""
    what_if: Step | None = None
    """The step under the cursor as it would be with the knobs set now; None for as it was."""
    stage: int = 0
    """Of the waterfall: which stage of `knobs.order` its keys move."""
    bits: bool = True
    layer: int = 1
    """1-based block of the attention view."""
    head: int | None = None
    """1-based; None for the mean of heads."""
    knobs: Knobs = field(default_factory=Knobs)
    """As asked for; `log.knobs` is what the engine has applied."""
    vectors: tuple[Vector, ...] = ()
    """As asked for; `log.vectors` is what the engine has applied."""
    knob: str = "temperature"
    """The knob that the arrow keys turn while the strip has the focus."""
    typed: str = ""
    """Digits typed for that knob and not yet taken."""
    box: frozenset[str] = frozenset()
    """What the box for text has beside its text: 'mode' (chat or raw), 'system' (a prompt), 'history'."""
    raw: bool = False
    """Show the prompt as the tokens that the model read, template and all."""
    notice: str = ""
    """One line for a person, shown in place of the key hints; empty for none."""
    branch: int = 0
    """The run that keys of the branches page act on, and that a diff compares; 0 for the one that is looked at."""
    hidden: bool = False
    """Branches that were deleted are listed too."""
    lane: Lane | None = None
    """What a shadow or a twin was chosen to be."""
    heat: float = 1.5
    """Temperature of a lane that differs in that."""
    typed_lanes: tuple[Lane, ...] = ()
    """Those with a prompt that a person typed."""
    fan: AskFan = field(default_factory=lambda: AskFan(0, 0))
    """As it is to be asked for; run 0 for never."""
    awaited: AskFan | None = None
    """What was asked for and is not answered yet."""
    rebuild: bool = False
    """The next change of a vector has the text before it read again."""
    second: bool = False
    """Of two lanes the one beside is looked at."""
    place: str = ""
    """Which pane or page with keys of its own has the focus: 'knobs', 'prompt', 'ask', one of keys.PAGES, '' for none
    (or 'replay' where a recording is shown)."""
    link: str = ""
    """Who else watches the engine, empty for nobody."""
    terminal: str = ""
    """How the link to the terminal does, empty where it is not known."""
    played: str = ""
    """Of a recording: how far it is shown, how fast, which file. Empty where an engine writes."""

    @property
    def fitted(self) -> Frame:
        """The same on what its log holds by now: that grows, and begins another text, after a frame was made, whose
        cursor may then stand where no step is."""
        last = self.last
        if self.cursor is None or self.cursor <= last:
            return self
        return replace(self, cursor=last if last >= 0 else None, token=0, what_if=None)

    @property
    def step(self) -> Step | None:
        """The step under the cursor, where that is beyond the text the one that is held up."""
        if self.cursor is None or not 0 <= self.cursor <= len(self.log.steps):
            return None
        return self.log.proposed if self.cursor == len(self.log.steps) else self.log.steps[self.cursor]

    @property
    def seen(self) -> Step | None:
        """The same, as it would be with other knobs where that is asked."""
        return self.what_if or self.step

    @property
    def held_up(self) -> bool:
        """Nothing of the step under the cursor is written yet: it comes next, if nothing is changed."""
        return self.log.proposed is not None and self.cursor == len(self.log.steps)

    @property
    def last(self) -> int:
        """The last step that the cursor can stand on, -1 for none."""
        return len(self.log.steps) - (self.log.proposed is None)

    @property
    def candidate(self) -> Candidate | None:
        """The one that is chosen, None for the written token."""
        step = self.seen
        return step.candidates[self.token - 1] if step and 0 < self.token <= len(step.candidates) else None

    def selecting(self, by: int) -> dict[str, Any]:
        """What changes where another candidate is chosen. The cursor stays: nobody chooses from a list that runs."""
        if (step := self.seen) is None:
            return {}
        rests = self.log.state not in ("reading", "writing")
        return {"token": min(max(self.token + by, 0), len(step.candidates)), "following": self.following and rests}

    @property
    def where(self) -> list[str]:
        """The step under the cursor, for a title."""
        if self.cursor is None:
            return []
        step = f"step {self.cursor + 1}"
        return [step, "next", "not written yet"] if self.held_up else [step]

    @property
    def where_of_all(self) -> list[str]:
        """The same, and how many are written."""
        return [f"{name} of {len(self.log.steps)}" for name in self.where] if len(self.where) == 1 else self.where

    @property
    def beside(self) -> Frame:
        """The same of the lane that is written beside; this frame where there is none."""
        twin = self.log.twin
        if twin is None:
            return self
        there = replace(self, log=replace(self.log, now=twin, twin=self.log.now), what_if=None)
        cursor = None if self.cursor is None or there.last < 0 else min(self.cursor, there.last)
        return replace(there, cursor=cursor)

    @property
    def unit(self) -> str:
        return "bits" if self.bits else "nats"

    def trust(self, group: str) -> Trust | None:
        """How far a group of numbers (records.TRUSTED) can be believed; None where nobody says."""
        return self.log.card.trust.get(group) if self.log.card else None

    def trust_of(self, series: Series) -> Trust | None:
        """The same of one series, where something else is known of it than of its group."""
        return self.trust(f"series {series.name}") or self.trust(GROUPS.get(series.distribution, ""))


GROUPS = {"model": "logits", "final": "sampling", "attention": "heads", "residual": "residual"}
"""Distribution of a series -> its group in records.TRUSTED."""
SUPPOSED = "as it would be with the knobs set now"
"""Of Frame.what_if, for titles."""
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
    """The group of numbers that it shows (records.TRUSTED), whose mark stands in its title."""

    OF_STEP: ClassVar[bool] = False
    """Of two lanes it shows the one that a person looks at."""

    class CursorAsked(Message):
        """A person wants to look at another step."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    class HeadAsked(Message):
        """A person wants to look at another layer and head (1-based; None for the mean of heads)."""

        def __init__(self, layer: int, head: int | None) -> None:
            super().__init__()
            self.layer = layer
            self.head = head

    class KnobAsked(Message):
        """A person chose a knob of the strip."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class TokenAsked(Message):
        """A person chose a token: 0 is the written one, n the n-th candidate."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

    class RowAsked(Message):
        """A person chose a row of a list."""

        def __init__(self, row: int) -> None:
            super().__init__()
            self.row = row

    class VectorAsked(Message):
        """A person wants a vector switched on or off."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
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
        """What changes of a frame when a person goes `by` rows down; nothing where a view has no rows."""
        return {}

    def heading(
        self, frame: Frame, name: str, groups: Iterable[str | list[Part]], width: int, right: str = ""
    ) -> Strip:
        """The title row: bright with the focus, marked with how far the numbers can be believed."""
        paint, trust = frame.paint, frame.trust(self.TRUST)
        first = [(name, paint.focused if self.has_focus else paint.title)]
        return paint.whole([*first, *([paint.trusted[trust.level]] if trust else [])], groups, width, right)

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
        for filter in self.get_line_filters():
            strips = [strip.apply_filter(filter, self.background_colors[1]) for strip in strips]
        return (
            strips
            if crop.column_span == (0, self.size.width)
            else [strip.crop(*crop.column_span) for strip in strips]
        )

    def get_line_filters(self) -> Sequence[LineFilter]:
        """It is drawn in ASCII where that is wanted, but for a model's own words."""
        return [each for each in super().get_line_filters() if not isinstance(each, InAscii)]

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
