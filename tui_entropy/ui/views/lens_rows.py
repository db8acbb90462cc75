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

LAYER, GAP = 6, 2
CELL = 13, 8
"""Cells of a number with the name and the unit of it over it, and where there is little room."""
NARROW = 72
"""Cells of a width where there is."""
TOKEN = 10, 28
"""Cells of a token, at least and at most."""
BAR = 8, 40
"""Cells of a bar, where there is one."""
Row = list[Part]


def lens_table(frame: Frame, step: Step, width: int, room: int) -> Iterator[Row]:
    """The titles, as many rows as there is room for with the layer that is looked at among them, the last one on top,
    and a row of what they come to, which `fits_whole` leaves out."""
    rows = step.lens_rows[::-1]
    cell = CELL[width < NARROW]
    token = min(max(width - LAYER - 4 * cell - GAP, TOKEN[0]), TOKEN[1])
    beside = min(width - LAYER - 4 * cell - token - 2 * GAP, BAR[1])
    bar = beside if beside >= BAR[0] else 0
    yield _titles(frame, token, cell, bar)
    summed = not fits_whole(step, room)
    shown = max(room - 1 - summed, 1)
    at = next((n for n, row in enumerate(rows) if row.layer <= frame.layer), len(rows) - 1)
    first = min(max(at - shown // 2, 0), max(len(rows) - shown, 0))
    for row in rows[first : first + shown]:
        yield _row(frame, row, row is rows[at], row.token_id == rows[0].token_id, token, cell, bar)
    if summed:
        yield [part for group in lens_series(frame, step) for part in (*group, ("  ", frame.paint.base))]


def fits_whole(step: Step, room: int) -> bool:
    """Whether each layer has its row in so many, and none is left for what they come to."""
    return len(step.lens_rows) == room - 1


def _titles(frame: Frame, token: int, cell: int, bar: int) -> Row:
    unit = frame.unit
    wide = ("its p %", f"entropy {unit}", f"KL {unit}", "rank written")
    names = wide if cell == CELL[0] else ("p %", f"H {unit}", f"KL {unit}", "rank")
    over = " " * GAP + fitted("its p, 0 to 100 %", bar, frame.paint.ascii) if bar else ""
    titles = "".join(frame.paint.ours(name).rjust(cell) for name in names)
    return [(f"{'layer':{LAYER}}{'would say':{token}}{titles}{over}", frame.paint.dim)]


def _row(frame: Frame, row: LensRow, chosen: bool, says_the_same: bool, token: int, cell: int, bar: int) -> Row:
    paint, power = frame.paint, LN2 if frame.bits else 1.0
    said = visible_token(row.token_id, row.token_bytes, paint.ascii)
    numbers = (100 * row.p, row.entropy / power, row.kl / power)
    return [
        (f"{row.layer:>3}", paint.cursor if chosen else paint.dim),
        (" " * (LAYER - 3), paint.base),
        (fitted(said, token, paint.ascii), paint.final if says_the_same else paint.base),
        ("".join(figure(value).rjust(cell) for value in numbers), paint.number),
        ((str(row.rank) if row.rank else "?").rjust(cell), paint.number),
        (" " * GAP, paint.base),
        (paint.bar(row.p, bar) if bar else "", paint.model),
    ]


def lens_series(frame: Frame, step: Step) -> Iterator[Row]:
    """What the series of the lens are at a step, each by its name."""
    paint = frame.paint
    for metric in LENS:
        unit = paint.ours(metric.unit(frame.bits))
        value = figure(metric.value(step, frame.bits)) if metric.kind != "count" else f"{metric.read(step):.0f}"
        yield [(f"{metric.name} ", paint.dim), (value, paint.number), (f" {unit}".rstrip(), paint.dim)]
