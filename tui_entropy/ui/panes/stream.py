"""The text: the prompt, then what the model wrote, tinted by one series."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from tui_entropy.metrics.registry import BY_NAME, METRICS
from tui_entropy.records.events import Started
from tui_entropy.records.step import NO_ID, Step
from tui_entropy.state.run_diff import parting
from tui_entropy.state.run_view import changes
from tui_entropy.state.step_store import StepStore
from tui_entropy.ui.drawing.glyphs import cells, fitted, nameless, visible, visible_token
from tui_entropy.ui.drawing.paged_layout import PagedLayout, Position
from tui_entropy.ui.drawing.paint import Group, Part, size_of
from tui_entropy.ui.drawing.wrap import Flow
from tui_entropy.ui.keys.first_words import first_words
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.jump_targets import JumpState, Matches, count, is_counted, matches, on_target
from tui_entropy.ui.views.tint_scale import AttentionTint, TintScale, tint_of
from tui_entropy.ui.views.turns import FIRST_PROMPT_TOKEN, MARK, NOBODY, PROMPT, ROLE, turns_of
from tui_entropy.ui.views.view import View
from tui_entropy.ui.views.wording import wrap

NAME = 12
"""Cells of the name of who speaks, at most."""
FOREIGN = BY_NAME["by lane"]
FEW = 12
"""Rows of a pane that has none to spare for an empty one."""
MAX_CACHED_LINES = 4096
"""Lines that are kept as drawn."""


class TokenStream(View, can_focus=True):
    """Follows its end until a person scrolls or moves the cursor; a click asks for the cursor."""

    TRUST: ClassVar[str] = "logits"

    @dataclass
    class Scrolled(Message):
        """A person scrolled it."""

        stream: TokenStream
        step: int | None
        """The first one shown; None for the end."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.top: Position | None = None
        """First line shown; None while following the end."""
        self._text_layout = PagedLayout(lambda n: Flow(4, ""), lambda flow, index, text: None)
        self._steps = StepStore()
        self._marked: set[int] = set()
        """Steps with a mark before them."""
        self._parted: int | None = None
        """Of two lanes, the first step that differs."""
        self._key: tuple[object, ...] = ()
        self._started: Started | None = None
        self._laid = 0
        self._look: tuple[object, ...] = ()
        self._scale: TintScale | AttentionTint = TintScale(METRICS[0], ())
        self._matches: Matches | None = None
        self._strips: dict[Position, Strip] = {}
        """Lines as they are without a cursor, drawn in the way of `_look`; not the last one, which may grow."""
        self._styles: dict[int, Style] = {}
        """Of steps, in the way of `_look`."""

    def show(self, frame: Frame) -> None:
        """Bring the cursor into view where a person moved it; go back to the end where they asked for it."""
        before, started = self.frame, frame.log.started
        if started is not self._started:
            self.top, self._started = None, started
        if frame.following and (before is None or not before.following):
            self.top = None
        elif not frame.following and (before is None or before.following or frame.cursor != before.cursor):
            self._reveal(frame)
        super().show(frame)

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        name = f"run {frame.log.run_number}" if frame.log.twin else "text"
        if frame.log.started:
            self._lay(frame, width)  # the title says where two lanes part
        heading = self.heading(frame, name, self._title(frame), width)
        if not frame.log.started:
            return [heading, *[Strip([])] * (height > FEW), *first_words(frame, width, height - 2)][:height]
        cursor, layout = _owner(frame), self._text_layout
        under = layout.line_of(cursor)
        near = {layout.moved(under, by) for by in (-1, 0, 1)}
        room = height - 1 - self._ghost_below(frame, width)
        shown = layout.positions(self._first(room), room)
        rows = [self._line(frame, at, width, cursor if at in near else None) for at in shown]
        if room < height - 1 and shown and shown[-1] == layout.end:
            rows.append(frame.paint.row([_ghost(frame)], width))
        if frame.log.run.failed and shown and shown[-1] == layout.end:
            why: list[Part] = [(visible(frame.log.run.ended or "", frame.paint.ascii, True), frame.paint.error)]
            rows += [Strip([]), *(frame.paint.row(line, width) for line in wrap(why, width))]
        return [heading, *rows][:height]

    def page(self, pages: float) -> None:
        """Scroll by this many pages, down where positive; at the end, follow it again."""
        self._scroll(round(pages * max(self.size.height - 2, 1)))

    def begin_with(self, step: int | None) -> None:
        """Scroll so that a step is on the first line; None for the end."""
        if self.frame is not None and self.frame.log.started and self.size:
            self._lay(self.frame, self.size.width)
            last = self._text_layout.moved(self._text_layout.end, 2 - self.size.height)
            self.top = None if step is None else min(self._text_layout.line_of(step), last)
            self.redraw()

    def step_at(self, x: int, y: int) -> int | None:
        """The step drawn at a cell of the widget, the nearest before it where the cell is empty."""
        frame, (width, height) = self.frame, self.size
        below = bool(frame and self._ghost_below(frame, width))
        shown = self._text_layout.positions(self._first(height - 1 - below), y)
        if y < 1 or len(shown) < y - below:
            return None
        n, line = shown[-1]
        column, found = 0, None
        for text, owner in self._text_layout.flow(n).lines[line]:
            column += Segment(text).cell_length
            found = owner if owner >= 0 else found
            if column > x:
                return found
        after = frame is not None and frame.log.proposed and shown[-1] == self._text_layout.end
        return frame.last if frame and after and (not below or len(shown) < y) else found

    def on_click(self, event: events.Click) -> None:
        step = self.step_at(event.x, event.y)
        if step is not None:
            self.post_message(self.CursorAsked(step))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._scroll(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._scroll(-3)

    # --- Layout ----------------------------------------------------------------------------------------------

    def _lay(self, frame: Frame, width: int) -> None:
        """Bring the layout up to the newest step. It is begun anew only for another run or another width, or for a
        mark in what is laid out already."""
        log, paint = frame.log, frame.paint
        assert log.started
        self._parted = parting(log.run, log.twin) if log.twin else None
        marked = {mark.index for mark in log.marks} | ({self._parted} if self._parted is not None else set())
        late = sum(index < self._laid for index in marked)
        key = (id(log.started), width, paint.ascii, frame.raw)
        if key != self._key[:-1] or self._laid > len(log.steps) or late != self._key[-1]:
            self._text_layout = self._begun(log.started, frame, width)
            self._strips, self._styles = {}, {}
        self._scale = tint_of(frame)
        self._matches = matches(frame)
        look = (paint, self._scale, frame.of(JumpState), len(self._matches.spans) if self._matches else 0)
        if look != self._look or len(self._strips) > MAX_CACHED_LINES:
            self._look, self._strips, self._styles = look, {}, {}
        self._marked = marked
        self._steps = log.steps
        self._text_layout.update(log.steps.texts)
        self._laid = len(log.steps)
        self._key = (*key, sum(index < self._laid for index in marked))

    def _by_lane(self, index: int) -> bool:
        """Whether a token is there only because of what tells this lane from its shadow."""
        return bool(next(self._steps.values(FOREIGN, index, index + 1), None))

    def _begun(self, started: Started, frame: Frame, width: int) -> PagedLayout:
        paint = frame.paint

        def new_page(n: int) -> Flow:
            flow = Flow(width, paint.newline)
            if n == 0:
                _open(flow, started, frame)
            return flow

        def add(flow: Flow, index: int, text: str) -> None:
            if index in self._marked:
                flow.add(paint.pin, MARK)
            if paint.color == "mono" and self._by_lane(index):  # where a line under it is a tint
                flow.add(paint.foreign, MARK)
            if not text and not completed_later(self._steps[index]):
                text = nameless(self._steps[index].token_id, paint.ascii)
            flow.add(visible(text, paint.ascii), index)

        return PagedLayout(new_page, add)

    def _first(self, height: int) -> Position:
        """The first line shown. While following, a full page moves up by a quarter at once."""
        if self.top is not None:
            return self._text_layout.moved(self.top, 0)
        n, line = self._text_layout.end
        quarter = max(height // 4, 1)
        return self._text_layout.moved((n, 0), -(-(line + 1 - height) // quarter) * quarter)

    def _scroll(self, lines: int) -> None:
        height = self.size.height - 1
        top = self._text_layout.moved(self._first(height), lines)
        self.top = top if len(self._text_layout.positions(top, height + 1)) > height else None
        self.redraw()
        self.post_message(self.Scrolled(self, None if self.top is None else self.step_at(self.size.width, 1) or 0))

    def _reveal(self, frame: Frame) -> None:
        height = max(self.size.height - 1, 1)
        if frame.log.started and self.size:
            self._lay(frame, self.size.width)
        line = self._text_layout.line_of(_owner(frame))
        self.top = min(max(self._first(height), self._text_layout.moved(line, 1 - height)), line)

    def _ghost_below(self, frame: Frame, width: int) -> bool:
        """Whether what comes next does not fit behind the text, and stands on a line of its own."""
        if frame.log.proposed is None:
            return False
        n, line = self._text_layout.end
        used = size_of(self._text_layout.flow(n).lines[line])
        return used + cells(_ghost(frame)[0]) > width

    # --- Drawing ---------------------------------------------------------------------------------------------

    def _title(self, frame: Frame) -> Iterator[Group]:
        paint = frame.paint
        if frame.log.twin is not None:
            yield from _lane(frame)
            yield f"parts at {self._parted + 1}" if self._parted is not None else "the same so far"
        rest: list[Group] = []
        if frame.log.run.shadow is not None:
            rest.append(
                [(f"{paint.foreign} by the lane only", paint.mark)]
                if paint.color == "mono"
                else [("by the lane only", paint.base + paint.under)]
            )
        quiet = frame.following and frame.of(JumpState) == JumpState()
        counted = [] if quiet or not is_counted(frame) else [count(frame)]
        first = bool(counted) and (on_target(frame) or self._matches is not None)
        rest += [*counted, *frame.where_of_all] if first else [*frame.where_of_all, *counted]
        scale = tint_of(frame)
        yield scale.legend(paint, frame.bits), scale.legend(paint, frame.bits, short=True)
        yield from rest
        if self.top is not None or not frame.following:
            yield "End follows"

    def _line(self, frame: Frame, at: Position, width: int, cursor: int | None) -> Strip:
        if cursor is None and at in self._strips:
            return self._strips[at]
        paint, (n, y) = frame.paint, at
        flow, ends = self._text_layout.flow(n), at == self._text_layout.end
        parts: list[Part] = []
        for text, owner in flow.lines[y] if ends else _said(flow.lines[y]):
            style = paint.cursor if owner == cursor and cursor is not None else self._style(frame, owner)
            if parts and parts[-1][1] is style:
                parts[-1] = (parts[-1][0] + text, style)
            else:
                parts.append((text, style))
        if cursor == len(frame.log.steps) and ends and not frame.held_up:
            parts.append((" ", paint.cursor))
        if ends and frame.log.proposed and not self._ghost_below(frame, width):
            parts.append(_ghost(frame))
        strip = paint.row(parts, width)
        if cursor is None and not ends and all(self._scored(frame, owner) for _, owner in flow.lines[y]):
            self._strips[at] = strip
        return strip

    @staticmethod
    def _scored(frame: Frame, owner: int) -> bool:
        """Whether the tint of what an owner wrote stays as it is: scores of the prompt come in while it is read."""
        column = frame.log.prompt_scores.get(frame.tint.prompt, ())
        at = FIRST_PROMPT_TOKEN - owner
        return owner > FIRST_PROMPT_TOKEN or not 0 < at < len(column) or not math.isnan(column[at])

    def _style(self, frame: Frame, owner: int) -> Style:
        if owner <= FIRST_PROMPT_TOKEN:
            return self._scale.prompt_style(frame, FIRST_PROMPT_TOKEN - owner)
        if owner < 0:
            return {PROMPT: frame.paint.prompt, ROLE: frame.paint.role}.get(owner, frame.paint.mark)
        if owner not in self._styles:
            style = self._scale.step_style(frame, owner)
            if self._matches and self._matches.holds(owner):
                style = frame.paint.match
            self._styles[owner] = style + frame.paint.under if self._by_lane(owner) else style
        return self._styles[owner]


class TwinStream(TokenStream):
    """The text of the lane that is written beside."""

    def show(self, frame: Frame) -> None:
        if frame.log.twin is None:
            self.frame = frame
        else:
            super().show(frame.beside)


def _lane(frame: Frame) -> Iterator[str | list[Part]]:
    """The name of the second of two lanes, or what was set otherwise in it."""
    log, paint = frame.log, frame.paint
    if log.twin is None or log.run.started.twin_of is None:
        return
    if name := log.run.name or ", ".join(changes(log.run, log.twin)):
        yield [(visible(paint.ours(name), paint.ascii, True), paint.accent)]


def _open(flow: Flow, started: Started, frame: Frame) -> None:
    """Lay out what stands before the first written token, with who speaks."""
    text = "".join(token.text for token in started.prompt_tokens)
    ends = list(itertools.accumulate(len(token.text) for token in started.prompt_tokens))

    def lay(first: int, last: int) -> None:
        """The characters from first to last, each as the token's that completes it."""
        for at in range(bisect_right(ends, first), bisect_left(ends, last) + 1 if last > first else 0):
            part = text[max(first, ends[at - 1] if at else 0) : min(last, ends[at])]
            flow.add(visible(part, frame.paint.ascii), FIRST_PROMPT_TOKEN - at)

    if not started.chat or frame.raw:
        lay(0, len(text))
        return

    def turn(role: str) -> None:
        flow.turn()
        name = visible(role, frame.paint.ascii, in_table=True)
        flow.add(f"{fitted(name, min(cells(name), NAME), frame.paint.ascii)}  ", ROLE)

    for role, words, first in turns_of(started, text):
        turn(role)
        if first is None:
            flow.add(visible(words, frame.paint.ascii), PROMPT)
        else:
            lay(first, first + len(words))
    turn("model")


def _said(line: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The parts of a line without the spaces that end it: the token they belong to shows on the next one."""
    last = len(line)
    while last and line[last - 1][0] == " ":
        last -= 1
    return line[:last]


def _ghost(frame: Frame) -> Part:
    """The token that comes next at a stop: in brackets, since nothing of it is written."""
    paint, step = frame.paint, frame.log.proposed
    assert step
    token = visible_token(step.token_id, step.token_bytes, paint.ascii)
    return (f"<{token}>" if paint.ascii else f"‹{token}›"), paint.cursor if frame.held_up else paint.dim


def _owner(frame: Frame) -> int:
    """The step whose text stands for the step under the cursor: the first from there on that completes a character.
    The number of steps where none does yet."""
    texts = frame.log.steps.texts
    if frame.cursor is None:
        return NOBODY
    index = frame.cursor
    while index < len(texts) and not texts[index] and completed_later(frame.log.steps[index]):
        index += 1
    return index


def completed_later(step: Step) -> bool:
    """Whether a token without a text of its own is part of what one behind it says: it ends inside a character, or a
    server told a text as a whole."""
    return bool(step.token_bytes) or step.token_id == NO_ID
