"""The attention of one layer and head: queries x keys."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import ClassVar

from msgspec import to_builtins
from textual.strip import Strip

from tui_entropy.records.bounds import MOST_KEYS
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.attention_rows import ATTENTION_ROWS, AttentionRows, RowOptions
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import token_at

LABEL, ELSEWHERE = 10, 8
MAX_QUERIES = 24


class AttentionMap(View, can_focus=True):
    """Weights are drawn by their square root, since a first token often takes nearly all of a row."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "attention"

    def wanted(self, frame: Frame) -> AskProbe | None:
        """What to ask the engine for, so that it fills the pane as it is now: rows up to the query that chose the
        step under the cursor."""
        if frame.step is None or not self.size:
            return None
        return asking(frame, self.size.width, self.size.height)

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, rows = frame.paint, frame.log.attention
        heading = self.heading(frame, "attention", _title(frame, rows), width)
        why = self.missing(frame)
        if why or rows is None or rows.unavailable or not rows.queries:
            why = why or (visible(rows.unavailable, paint.ascii, True) if rows and rows.unavailable else "")
            hint = (
                why or "Which earlier tokens a layer looked at while the model chose this one. [ ] layer, { } head."
            )
            return [heading, *paint.hint(hint, width)][:height]
        grid = rows.weights.rows()
        pairs = paired(frame)
        lines = list(_halves(frame, rows, grid) if pairs else _singles(frame, rows, grid))
        room = max(height - 3, 1)
        body = lines[-room:]
        foot = [_axis(frame, rows, pairs), _most(frame, rows, grid)]
        return [heading, *(paint.row(line, width) for line in [*body, *foot])][:height]


def paired(frame: Frame) -> bool:
    """Whether two queries share a line."""
    return frame.paint.rich and not frame.paint.ascii


def asking(frame: Frame, width: int, height: int) -> AskProbe:
    """The rows that fill a pane of this size. The frame must have a step."""
    assert frame.step
    last = frame.step.position - 1
    label = LABEL * 2 if paired(frame) else LABEL
    n_keys = max(min(width - label - ELSEWHERE, last + 1, MOST_KEYS), 1)
    n_queries = min(max(height - 3, 1) * (2 if paired(frame) else 1), MAX_QUERIES, last + 1)
    options = RowOptions(frame.layer, frame.head, n_queries, last + 1 - n_keys, n_keys)
    position = frame.step.position
    return AskProbe(ATTENTION_ROWS, frame.log.run_number, position, to_builtins(options), record=False)


def _title(frame: Frame, rows: AttentionRows | None) -> Iterator[str | list[Part]]:
    layer, head = (rows.layer, rows.head) if rows and rows.queries else (frame.layer, frame.head)
    yield f"layer {layer} {'mean of heads' if head is None else f'head {head}'}"
    if rows and rows.queries:
        yield frame.paint.legend(f"{frame.paint.root}weight", "0", "1")
    yield from frame.where
    if rows and rows.queries:
        yield f"last {len(rows.queries)} queries"


def _halves(frame: Frame, rows: AttentionRows, grid: list[list[float]]) -> Iterator[list[Part]]:
    """Two queries in a line, the older one above."""
    paint = frame.paint
    for at in range(len(grid) % 2 - 2 if len(grid) % 2 else 0, len(grid), 2):
        upper = grid[at] if at >= 0 else [math.nan] * len(grid[at + 1])
        lower = grid[at + 1]
        names = (_name(frame, rows.queries[at]) if at >= 0 else " " * LABEL) + _name(frame, rows.queries[at + 1])
        # Most weights are near 0: cells that look the same are made once.
        pairs = groupby(zip(_steps(frame, upper), _steps(frame, lower), strict=True))
        cells = [paint.halves(above, below, sum(1 for _ in same)) for (above, below), same in pairs]
        yield [(names, paint.dim), *cells, *_elsewhere(frame, rows, at + 1)]


def _singles(frame: Frame, rows: AttentionRows, grid: list[list[float]]) -> Iterator[list[Part]]:
    paint = frame.paint
    for at, weights in enumerate(grid):
        cells = [(" ", paint.base) if math.isnan(w) else paint.cell(_level(w)) for w in weights]
        yield [(_name(frame, rows.queries[at]), paint.dim), *cells, *_elsewhere(frame, rows, at)]


def _elsewhere(frame: Frame, rows: AttentionRows, at: int) -> list[Part]:
    return [(f" +{rows.elsewhere[at]:.2f}", frame.paint.dim)] if rows.first_key else []


def _axis(frame: Frame, rows: AttentionRows, pairs: bool) -> list[Part]:
    """Positions of keys, every ten."""
    n_keys = rows.weights.shape[1]
    row = [" "] * n_keys
    for key in range(-(-rows.first_key // 10) * 10, rows.first_key + n_keys, 10):
        text = f"{frame.paint.pin}{key}"
        at = key - rows.first_key
        if at + len(text) <= n_keys:
            row[at : at + len(text)] = text
    label = LABEL * 2 if pairs else LABEL
    tail = " others" if rows.first_key else ""
    return [
        ("key at".ljust(label), frame.paint.dim),
        ("".join(row), frame.paint.dim),
        (tail, frame.paint.dim),
    ]


def _most(frame: Frame, rows: AttentionRows, grid: list[list[float]]) -> list[Part]:
    """The keys with the most weight for the newest query, in numbers."""
    paint = frame.paint
    known = [(weight, key) for key, weight in enumerate(grid[-1], rows.first_key) if not math.isnan(weight)]
    parts: list[Part] = [(token_at(frame.log, rows.queries[-1], paint.ascii), paint.base), (" looks at  ", paint.dim)]
    for weight, key in sorted(known, key=lambda pair: (-pair[0], pair[1]))[:8]:
        parts += [(token_at(frame.log, key, paint.ascii), paint.base), (f" {weight:.2f}  ", paint.number)]
    return parts


def _level(weight: float) -> float | None:
    return None if math.isnan(weight) else math.sqrt(min(max(weight, 0.0), 1.0))


def _steps(frame: Frame, weights: list[float]) -> list[int | None]:
    """The step of the heat ramp that the square root of each weight stands on."""
    bounds = _bounds(frame.paint.n_ramp_steps)
    return [None if weight != weight else bisect(bounds, weight) for weight in weights]  # NaN is unlike itself


@lru_cache
def _bounds(n_steps: int) -> list[float]:
    """The weights at which the second step of the ramp begins, and each after it."""
    return [(step / n_steps) ** 2 for step in range(1, n_steps)]


def _name(frame: Frame, position: int) -> str:
    return fitted(token_at(frame.log, position, frame.paint.ascii), LABEL - 1, frame.paint.ascii) + " "
