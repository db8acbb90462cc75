"""Entropy against varentropy of the steps so far, with the quadrants of Entropix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual.strip import Strip

from tui_entropy.metrics.entropix import Thresholds
from tui_entropy.metrics.metric import LN2
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.ui.drawing.paint import Paint, Part, figure
from tui_entropy.ui.keys.needs import acts
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import decision_text, thresholds, wrap

AXIS = 8
"""Cells left of the field."""
MAX_NATS = 1e12
"""Nats that no distribution has; a damaged recording may."""
AXES = ("entropy", "varentropy")
MAX_POINTS = 2048
"""Steps that are drawn; of a longer text those up to the cursor."""

Points = list[tuple[float, float]]
"""Of steps: entropy in nats, varentropy in nats squared."""


@dataclass(frozen=True)
class Field:
    """Cells of the scatter. Both axes show square roots, since most steps lie near zero."""

    width: int
    height: int
    right: float
    """The entropy at the right edge, nats."""
    top: float
    """The varentropy at the upper edge, nats squared."""

    def column(self, entropy: float) -> int:
        return min(int(math.sqrt(max(entropy, 0.0) / self.right) * self.width), self.width - 1)

    def row(self, varentropy: float) -> int:
        """Counted from the top."""
        return self.height - 1 - min(int(math.sqrt(max(varentropy, 0.0) / self.top) * self.height), self.height - 1)


class Quadrants(View):
    """The step under the cursor is a diamond."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._key: object = None
        self._points: Points = []
        """Those of the steps before `_read`."""
        self._read = 0
        self._most = 0.0, 0.0
        """The largest of each axis."""
        self._field: Field | None = None
        self._counts: Counter[tuple[int, int]] = Counter()
        """Of the first `_count_of` points, in the cells of `_field`."""
        self._count_of = 0

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, step = frame.paint, frame.step
        first, last = _window(len(frame.log.steps), frame.cursor or 0)
        whose, at = thresholds(step.decision if step else None)
        where = frame.where if step else []
        if last - first < len(frame.log.steps):
            where.append(f"steps {first + 1} to {last} shown")
        groups = [
            "varentropy up, entropy across, square-root scales",
            *where,
            f"thresholds: {whose}",
            f"{paint.shades[1]} one step, {paint.shades[-1]} {len(paint.shades) - 1} or more",
        ]
        heading = self.heading(frame, "quadrants", groups, width)
        if (why := self.missing(frame)) or step is None or height < 6:
            adaptive = " A: adaptive sampling." if acts(frame, "adaptive") else ""
            hint = why or f"Entropy against varentropy of every step, once a token is written.{adaptive}"
            return [heading, *paint.hint(hint, width)][:height]
        below = list(wrap(decision_text(frame, step.decision), width)) if step.decision else [_off(frame)]
        below = below[: max((height - 3) // 6, 1)]
        self._follow(frame, first, last)
        field = Field(
            max(width - AXIS, 1),
            height - 3 - len(below),
            max(at.entropy_asking, at.entropy_high, at.entropy_resampling, self._most[0]) * 1.1,
            max(at.varentropy_high, self._most[1]) * 1.1,
        )
        counts = self._counted(field)
        grid = _ground(paint, field, at)
        _scatter(paint, grid, counts)
        _names(paint, field, grid)
        if abs(step.entropy) + abs(step.varentropy) < MAX_NATS:
            grid[field.row(step.varentropy)][field.column(step.entropy)] = (paint.diamond, paint.cursor)
        rows = [_axis(frame, field, at, y) + grid[y] for y in range(field.height)]
        return [heading, *(paint.row(row, width) for row in [*rows, _scale(frame, field, at), *below])][:height]

    def _follow(self, frame: Frame, first: int, last: int) -> None:
        """Bring the points up to date; where the text has only grown, by its new steps."""
        steps = frame.log.steps
        if self._key != (id(steps), first) or last < self._read:
            self._key, self._read = (id(steps), first), first
            self._points, self._most, self._field = [], (0.0, 0.0), None
        pairs = zip(*(steps.values(BY_NAME[name], self._read, last) for name in AXES), strict=True)
        new = [(x, y) for x, y in pairs if x is not None and y is not None and abs(x) + abs(y) < MAX_NATS]
        self._points += new
        right, top = self._most
        self._most = max([right, *(x for x, _ in new)]), max([top, *(y for _, y in new)])
        self._read = last

    def _counted(self, field: Field) -> Counter[tuple[int, int]]:
        """Steps in each cell, (row, column)."""
        if field != self._field:
            self._field, self._counts, self._count_of = field, Counter(), 0
        new = self._points[self._count_of :]
        self._counts.update((field.row(varentropy), field.column(entropy)) for entropy, varentropy in new)
        self._count_of = len(self._points)
        return self._counts


def _window(n_steps: int, cursor: int) -> tuple[int, int]:
    """The first of the steps that are drawn, and the one after the last. It moves by a quarter at once."""
    quarter = MAX_POINTS // 4
    last = min(max((cursor // quarter + 1) * quarter, MAX_POINTS), n_steps)
    return max(-(-(last - MAX_POINTS) // quarter) * quarter, 0), last


def _ground(paint: Paint, field: Field, at: Thresholds) -> list[list[Part]]:
    """The field before there are points: the thresholds."""
    grid = [[(" ", paint.base)] * field.width for _ in range(field.height)]
    low, high = field.row(at.varentropy_low), field.row(at.varentropy_high)
    for x, wall in ((at.entropy_low, low), (at.entropy_asking, low)):
        for y in range(wall, field.height):
            grid[y][field.column(x)] = (paint.wall, paint.dim)
    for x in {field.column(at.entropy_high), field.column(at.entropy_resampling)}:
        for y in range(high + 1):
            grid[y][x] = (paint.wall, paint.dim)
    for y in (low, high):
        grid[y] = [(paint.line, paint.dim) if text == " " else ("+", paint.dim) for text, _ in grid[y]]
    return grid


def _names(paint: Paint, field: Field, grid: list[list[Part]]) -> None:
    """Write the names of the quadrants into their corners; what lies between them is adaptive."""
    right, bottom = field.width, field.height - 1
    for name, x, y in (
        ("exploring", 0, 0),
        ("resampling", right - len("resampling"), 0),
        ("flowing", 0, bottom),
        ("asking", right - len("asking"), bottom),
        ("adaptive", (right - len("adaptive")) // 2, (bottom + 1) * 3 // 4),
    ):
        for at, letter in enumerate(name, x):
            if 0 <= at < right:
                grid[y][at] = (letter, paint.dim if name == "adaptive" else paint.title)


def _scatter(paint: Paint, grid: list[list[Part]], counts: Mapping[tuple[int, int], int]) -> None:
    """A cell is as dark as it holds steps, as far as there are shades."""
    full = len(paint.shades) - 1
    parts = [(paint.shades[shade], paint.ramp_style(0.4 + 0.6 * shade / full)) for shade in range(full + 1)]
    for (y, x), count in counts.items():
        grid[y][x] = parts[min(count, full)]


def _axis(frame: Frame, field: Field, at: Thresholds, y: int) -> list[Part]:
    """Left of the field: varentropy, at its ends and thresholds."""
    square = LN2**2 if frame.bits else 1.0
    marks = {field.row(at.varentropy_low): at.varentropy_low, field.row(at.varentropy_high): at.varentropy_high}
    text = figure(marks[y] / square) if y in marks else figure(field.top / square) if y == 0 else ""
    if y == 1:
        text = frame.paint.ours(f"{frame.unit}²")
    return [(f"{text:>{AXIS - 2}} ", frame.paint.dim), (frame.paint.wall, frame.paint.dim)]


def _scale(frame: Frame, field: Field, at: Thresholds) -> list[Part]:
    """Below the field: entropy, at its thresholds and its end."""
    unit = LN2 if frame.bits else 1.0
    row = [" "] * field.width
    end = f"{figure(field.right / unit)} {frame.unit}"[: field.width]
    row[field.width - len(end) :] = end
    for value in (at.entropy_low, at.entropy_high, at.entropy_asking, at.entropy_resampling):
        text, begin = f"{frame.paint.up}{figure(value / unit)}", field.column(value)
        if all(glyph == " " for glyph in row[begin : begin + len(text) + 1]) and begin + len(text) < len(row):
            row[begin : begin + len(text)] = text
    return [("entropy ".rjust(AXIS), frame.paint.dim), ("".join(row), frame.paint.dim)]


def _off(frame: Frame) -> list[Part]:
    text = "Adaptive sampling was off at this step"
    if frame.knobs.adaptive == "off":
        switch = ", A switches it on" if acts(frame, "adaptive") else ""
        text = f"Adaptive sampling is off{switch}: not known to improve text"
    elif frame.cursor == frame.last:
        text += "; it acts from the next token on"
    return [(f"{text}.", frame.paint.dim)]
