"""The lens rows of a step: what each layer would have said, a row for each."""

from __future__ import annotations

from collections.abc import Iterator

from tui_entropy.metrics.lens import LENS
from tui_entropy.metrics.metric import LN2
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.step import Step
from tui_entropy.ui.drawing.glyphs import fitted, visible_token
from tui_entropy.ui.drawing.paint import Part, figure
from tui_entropy.ui.views.frame import Frame

LAYER, CELL, GAP = 6, 10, 2
TOKEN = 10, 28
"""Cells of a token, at least and at most."""
BAR = 8, 40
"""Cells of a bar, where there is one."""
Row = list[Part]


def lens_table(frame: Frame, step: Step, width: int, room: int) -> Iterator[Row]:
    """The titles, as many rows as there is room for with the layer that is looked at among them, the last one on top,
    and what they come to."""
    rows = step.lens_rows[::-1]
    token = min(max(width - LAYER - 4 * CELL - GAP, TOKEN[0]), TOKEN[1])
    beside = min(width - LAYER - 4 * CELL - token - 2 * GAP, BAR[1])
    bar = beside if beside >= BAR[0] else 0
    yield from _titles(frame, token, bar)
    shown = max(room - 3, 1)
    at = next((n for n, row in enumerate(rows) if row.layer <= frame.layer), len(rows) - 1)
    first = min(max(at - shown // 2, 0), max(len(rows) - shown, 0))
    for row in rows[first : first + shown]:
        yield _row(frame, row, row is rows[at], row.token_id == rows[0].token_id, token, bar)
    yield _summary(frame, step)


def _titles(frame: Frame, token: int, bar: int) -> Iterator[Row]:
    paint, unit = frame.paint, frame.unit
    columns = (("its p", "%"), ("entropy", unit), ("KL", unit), ("rank", "written"))
    names = "".join(name.rjust(CELL) for name, _ in columns)
    units = "".join(paint.ours(below).rjust(CELL) for _, below in columns)
    of_bar = [" " * GAP + fitted(text, bar, paint.ascii) if bar else "" for text in ("its p", "0 to 100 %")]
    yield [(f"{'layer':{LAYER}}{'would say':{token}}{names}{of_bar[0]}", paint.dim)]
    yield [(f"{'':{LAYER + token}}{units}{of_bar[1]}", paint.dim)]


def _row(frame: Frame, row: LensRow, chosen: bool, says_the_same: bool, token: int, bar: int) -> Row:
    paint, power = frame.paint, LN2 if frame.bits else 1.0
    said = visible_token(row.token_id, row.token_bytes, paint.ascii)
    numbers = (100 * row.p, row.entropy / power, row.kl / power)
    return [
        (f"{row.layer:>3}", paint.cursor if chosen else paint.dim),
        (" " * (LAYER - 3), paint.base),
        (fitted(said, token, paint.ascii), paint.final if says_the_same else paint.base),
        ("".join(figure(value).rjust(CELL) for value in numbers), paint.number),
        (str(row.rank).rjust(CELL), paint.number),
        (" " * GAP, paint.base),
        (paint.bar(row.p, bar) if bar else "", paint.model),
    ]


def _summary(frame: Frame, step: Step) -> Row:
    """What the series of the lens are at this step."""
    paint, parts = frame.paint, list[Part]()
    for metric in LENS:
        unit = paint.ours(metric.unit(frame.bits))
        value = figure(metric.value(step, frame.bits)) if metric.kind != "count" else f"{metric.read(step):.0f}"
        parts += [(f"{metric.name} ", paint.dim), (value, paint.number), (f" {unit}".rstrip() + "  ", paint.dim)]
    return parts
