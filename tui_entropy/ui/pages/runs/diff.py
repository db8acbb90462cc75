"""Two runs compared token by token: side by side, or where that is too narrow in one column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from textual.strip import Strip

from tui_entropy.records.events import probability_of
from tui_entropy.records.step import Step
from tui_entropy.state.run_diff import Span, compare, parting
from tui_entropy.state.run_view import RunView
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible, visible_token
from tui_entropy.ui.drawing.paint import Part, size_of
from tui_entropy.ui.drawing.wrap import Flow
from tui_entropy.ui.keys.branch_choice import BranchesState
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import View

SAME, GONE, NEW = 0, 1, 2
"""Owners of text: of both runs, of the one on screen only, of the other only."""
MARKS = {GONE: ("[-", "-]"), NEW: ("{+", "+}")}
CHOOSE = "Choose a run on the page of branches (B) and press d there."
ALONE = "There is no other run that this one could be compared with."
SIDE_BY_SIDE = 96
"""Cells that two columns need."""
LEVEL = 8
"""So many tokens in a row that are the same bring both columns to the same line."""
GAP = 3


class Diff(View):
    """The run on screen, and the one that was chosen among the branches. It opens where they part."""

    PACE: ClassVar[float] = 1 / 2

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._key: tuple[object, ...] = ()
        self._columns: list[Flow] = []
        self._parted: int | None = None
        self._first = self._last = 0
        """Line of the parting, and the last one."""
        self._above = 0
        """Lines shown above the parting when nobody has scrolled."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, one, other = frame.paint, frame.log.run, frame.log.runs.get(frame.of(BranchesState).branch)
        if other is None or other is one:
            heading = self.heading(frame, "diff", [], width)
            hint = ALONE if len(frame.log.runs) < 2 else CHOOSE
            return [heading, *paint.hint(hint, width)][:height]
        self._lay(frame, one, other, width)
        head = [self.heading(frame, "diff", _sizes(frame, one, other), width)]
        if self._parted is not None:
            parted = self._parted
            head += [paint.row(_there(frame, run, against, parted), width) for run, against in _pairs(one, other)]
        head.append(paint.row(_titles(frame, one, other, width), width))
        room = max(height - len(head), 1)
        self._above = room // 3
        first = min(max(self._first - self._above + frame.row, 0), max(self._last + 1 - room, 0))
        return [*head, *(self._line(frame, line, width) for line in range(first, min(first + room, self._last + 1)))][
            :height
        ]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        """As far as there are lines."""
        top = self._above - self._first
        return {"row": min(max(frame.row + by, min(top, 0)), max(self._last - self._first, 0))}

    def _lay(self, frame: Frame, one: RunView, other: RunView, width: int) -> None:
        runs = one.started.run, len(one.steps), other.started.run, len(other.steps)
        if (*runs, width, frame.paint.ascii) == self._key:
            return
        self._key = (*runs, width, frame.paint.ascii)
        self._parted = parting(one, other)
        wide = (width - GAP) // 2 if width >= SIDE_BY_SIDE else width
        left = Flow(wide, frame.paint.newline)
        right = Flow(wide, frame.paint.newline) if width >= SIDE_BY_SIDE else left
        self._first = 0
        for n, span in enumerate(compare(one, other).spans):
            if n < 2:
                self._first = len(left.lines) - 1
            _lay_span(frame, span, (left, one), (right, other))
        self._columns = [left] if right is left else [left, right]
        self._last = max(len(flow.lines) for flow in self._columns) - 1

    def _line(self, frame: Frame, line: int, width: int) -> Strip:
        paint = frame.paint
        styles = {SAME: paint.base, GONE: paint.error, NEW: paint.good}
        parts: list[Part] = []
        for n, flow in enumerate(self._columns):
            line_parts = flow.lines[line] if line < len(flow.lines) else []
            parts += [(text, styles[owner]) for text, owner in line_parts]
            if n + 1 < len(self._columns):
                used = size_of(line_parts)
                parts.append((" " * max(flow.width - used, 0), paint.base))
                parts.append((f" {paint.wall} ", paint.rule))
        return paint.row(parts, width)


def _lay_span(frame: Frame, span: Span, left: tuple[Flow, RunView], right: tuple[Flow, RunView]) -> None:
    (one, mine), (other, theirs) = left, right
    if span.same and one is not other and span.one_last - span.one_first >= LEVEL:
        line = max(len(one.lines), len(other.lines))
        one.reach(line)
        other.reach(line)
    _add(frame, one, mine.steps.texts[span.one_first : span.one_last], SAME if span.same else GONE)
    if not (span.same and one is other):
        _add(frame, other, theirs.steps.texts[span.other_first : span.other_last], SAME if span.same else NEW)


def _add(frame: Frame, flow: Flow, texts: list[str], owner: int) -> None:
    before, after = MARKS.get(owner, ("", ""))
    if texts:
        for part in (before, visible("".join(texts), frame.paint.ascii), after):
            flow.add(part, owner)


def _pairs(one: RunView, other: RunView) -> tuple[tuple[RunView, RunView], tuple[RunView, RunView]]:
    return (one, other), (other, one)


def _sizes(frame: Frame, one: RunView, other: RunView) -> Iterator[str | list[Part]]:
    yield f"run {one.started.run} on screen, {len(one.steps)} tokens"
    yield f"run {other.started.run}, {len(other.steps)} tokens"
    if one.started.prompt_tokens != other.started.prompt_tokens:
        yield [("their prompts differ", frame.paint.mark)]


def _there(frame: Frame, run: RunView, against: RunView, at: int) -> list[Part]:
    """The probabilities that one run gave both tokens where they part."""
    paint = frame.paint
    line: list[Part] = [(f"step {at + 1} in run {run.started.run}: ", paint.dim)]
    if at >= len(run.steps):
        return [*line, ("nothing is written there yet", paint.dim)]
    step = run.steps[at]
    line += [(f"{paint.drawn} {_token(frame, step)}", paint.accent), *_odds(frame, step, step)]
    if at < len(against.steps) and against.steps[at].token_id != step.token_id:
        theirs = against.steps[at]
        line += [(f"   {_token(frame, theirs)}", paint.base), *_odds(frame, step, theirs)]
    return [*line, ("  (model, final)", paint.dim)]


def _token(frame: Frame, step: Step) -> str:
    name = visible_token(step.token_id, step.token_bytes, frame.paint.ascii)
    return fitted(name, min(cells(name), 16), frame.paint.ascii)


def _odds(frame: Frame, step: Step, token: Step) -> list[Part]:
    """The probabilities that a step gave the token that another one wrote."""
    if token.token_id == step.token_id:
        model, final = probability_of(-step.surprisal), step.final_prob
    else:
        candidates = [c for c in step.candidates if c.token_id == token.token_id]
        if not candidates:
            return [(" ?", frame.paint.number), (" not among its candidates", frame.paint.dim)]
        model, final = probability_of(candidates[0].logprob), candidates[0].final_prob
    return [(f" {100 * model:.1f} %, {100 * final:.1f} %", frame.paint.number)]


def _titles(frame: Frame, one: RunView, other: RunView, width: int) -> list[Part]:
    paint = frame.paint
    names = [
        f"run {run.started.run} {visible(run.name, paint.ascii, True)} {before}only here{after}"
        for run, (before, after) in zip((one, other), (MARKS[GONE], MARKS[NEW]), strict=True)
    ]
    if width < SIDE_BY_SIDE:
        return [(names[0], paint.error), (paint.between, paint.dim), (names[1], paint.good)]
    wide = (width - GAP) // 2
    return [(fitted(names[0], wide), paint.error), (f" {paint.wall} ", paint.rule), (names[1], paint.good)]
