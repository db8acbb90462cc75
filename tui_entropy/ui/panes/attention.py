"""The attention of one layer and head: queries x keys, a token a row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import ClassVar

from msgspec import to_builtins
from textual.strip import Strip

from tui_entropy.records.bounds import MOST_KEYS
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.attention_rows import ATTENTION_ROWS, RowOptions
from tui_entropy.records.quantised_rows import N_KEYS
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.paint import Group, Part
from tui_entropy.ui.views.attention_rows import SINK, Row, ShownRows, rows_of, unavailable
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import token_at

LABEL, SINK_WIDTH, PEAK = 12, 3, 6
"""Cells of a row before its keys: the token, the first key; and behind them: the weight that the scale ends at."""
MAX_QUERIES = 48
FEW_STEPS = 5
"""Steps of a ramp that a legend has all of."""
N_NAMED = 8
"""Keys that are named below the rows, at most."""
HINT = "Which earlier tokens a layer looked at while the model chose this one. [ ] layer, { } head."


class AttentionMap(View, can_focus=True):
    """Each row is scaled to its own largest weight but that of the first key, which often takes nearly all of a row
    and has a column of its own."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "attention"

    def wanted(self, frame: Frame) -> AskProbe | None:
        """What to ask the engine for, so that it fills the pane as it is now: rows up to the query that chose the
        step under the cursor."""
        if frame.step is None or not (self.size or frame.attention_tint):
            return None
        return asking(frame, self.size.height if self.display else 0)

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint = frame.paint
        shown = rows_of(frame, n_rows(height))
        heading = self.heading(frame, "attention", _title(frame, shown), width)
        why = self.missing(frame)
        if why or shown is None:
            answer = frame.log.attention
            said = visible(answer.unavailable, paint.ascii, True) if answer and answer.unavailable else ""
            return [heading, *paint.hint(why or unavailable(frame) or said or HINT, width)][:height]
        rows = shown.rows[-n_rows(height) :]
        n_keys = max(min(width - LABEL - SINK_WIDTH - PEAK, rows[-1].query), 1)
        first = rows[-1].query + 1 - n_keys
        lines = [_row(frame, row, first, n_keys, row is rows[-1]) for row in rows]
        body = [paint.row(line, width) for line in [*lines, _axis(frame, first, n_keys)]]
        return [heading, *body, _most(frame, rows[-1], width)][:height]


def n_rows(height: int) -> int:
    """The number of rows that a pane of this height has room for."""
    return min(max(height - 3, 1), MAX_QUERIES)


def asking(frame: Frame, height: int) -> AskProbe:
    """The rows that fill a pane of this height, with all their keys as far as may be asked for. The frame must have a
    step."""
    assert frame.step
    last = frame.step.position - 1
    n_keys = max(min(last + 1, MOST_KEYS), 1)
    options = RowOptions(frame.layer, frame.head, min(n_rows(height), last + 1), last + 1 - n_keys, n_keys)
    position = frame.step.position
    return AskProbe(ATTENTION_ROWS, frame.log.run_number, position, to_builtins(options), record=False)


def _title(frame: Frame, shown: ShownRows | None) -> Iterator[Group]:
    if shown is None:
        yield f"layer {frame.layer} {'mean of heads' if frame.head is None else f'head {frame.head}'}"
        yield from frame.where
        return
    short = "mean" if shown.head is None else shown.kind
    yield _forms(frame, *dict.fromkeys((f"layer {shown.layer} {shown.kind}", f"layer {shown.layer} {short}")))
    if shown.recorded and shown.head != frame.head:
        yield f"head {frame.head} is not recorded"
    yield _legend(frame)
    if shown.recorded:
        yield _forms(frame, f"top {N_KEYS} keys of each row recorded", f"top {N_KEYS}")
    yield _forms(frame, "first key apart", "first apart")
    yield from frame.where


def _forms(frame: Frame, *texts: str) -> tuple[list[Part], ...]:
    """The same in fewer and fewer words, of which those are taken that there is room for."""
    return tuple([(text, frame.paint.dim)] for text in texts)


def _legend(frame: Frame) -> list[Part]:
    """The colours from nothing to the largest weight of a row."""
    paint = frame.paint
    ramp = [paint.cell((n + 0.5) / paint.n_ramp_steps) for n in range(paint.n_ramp_steps)]
    every = 2 if len(ramp) > FEW_STEPS else 1
    return [("0 ", paint.dim), *ramp[1::every], (" row max", paint.dim)]


def _row(frame: Frame, row: Row, first: int, n_keys: int, chosen: bool) -> list[Part]:
    """The token, what the first key gets of all, the others by their share of the largest, and that one's weight."""
    paint = frame.paint
    name = fitted(token_at(frame.log, row.query, paint.ascii), LABEL - 3, paint.ascii)
    label = f"{paint.drawn if chosen else ' '}{name}".ljust(LABEL - 1)
    largest = max((weight for _, weight in row.weights()), default=0.0)
    levels: list[float | None] = [None] * n_keys
    for key, weight in row.weights():
        if first <= key < first + n_keys and largest > 0:
            levels[key - first] = weight / largest
    steps = (0 if level is None else paint.step(level) for level in levels)
    cells = list[Part]()
    for step, same in groupby(steps):  # most weights are near 0: cells that look the same are made once
        n = sum(1 for _ in same)
        cells.append(paint.cell((step + 0.5) / paint.n_ramp_steps, n) if step else (" " * n, paint.base))
    sink = (" ", paint.base) if row.sink is None else paint.cell(row.sink)
    ends = paint.accent if chosen else paint.dim
    return [(f"{label} ", ends), sink, (f"{paint.wall} ", paint.dim), *cells, (f" {largest:.2f}", ends)]


def _axis(frame: Frame, first: int, n_keys: int) -> list[Part]:
    """Where the first key stands, and positions of the others, every ten."""
    paint, row = frame.paint, [" "] * n_keys
    for key in range(-(-first // 10) * 10, first + n_keys, 10):
        text, at = f"{paint.pin}{key}", key - first
        if key > SINK and at + len(text) <= n_keys:
            row[at : at + len(text)] = text
    return [(f"{'first key':>{LABEL - 1}} {paint.pin}  ", paint.dim), ("".join(row), paint.dim)]


def _most(frame: Frame, row: Row, width: int) -> Strip:
    """The keys with the most weight for the newest query, in numbers, wherever they stand."""
    paint = frame.paint
    first: list[Part] = [(token_at(frame.log, row.query, paint.ascii), paint.accent), (" looks at", paint.dim)]
    named = sorted(row.weights(), key=lambda pair: (-pair[1], pair[0]))[:N_NAMED]
    groups: list[Group] = [
        [(token_at(frame.log, key, paint.ascii), paint.base), (f" {weight:.2f}", paint.number)]
        for key, weight in named
    ]
    others = row.rest + sum(weight for _, weight in row.weights()) - sum(weight for _, weight in named)
    groups.insert(0, [("others", paint.dim), (f" {max(others, 0.0):.2f}", paint.number)])
    if row.sink is not None:
        groups.insert(0, [("first key", paint.dim), (f" {row.sink:.2f}", paint.number)])
    return paint.whole(first, groups, width)
