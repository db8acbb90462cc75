"""Panels of a probe's answer as rows of parts: each kind is drawn here, once, for pages, commands and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.style import Style

from tui_entropy.metrics.metric import LN2
from tui_entropy.records.probes.panels import (
    OF_ROW,
    UNIT,
    Axis,
    Bars,
    Cell,
    Column,
    Flow,
    FlowNode,
    FlowRow,
    Graph,
    Heatmap,
    Note,
    Panel,
    Table,
    TintedText,
    Tokens,
)
from tui_entropy.records.step import Step
from tui_entropy.ui.drawing.flow_lines import HEAVY, Line, lines_between
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible, visible_bytes, visible_token
from tui_entropy.ui.drawing.paint import Paint, Part, figure
from tui_entropy.ui.views.wording import wrap

Row = list[Part]
UNDERLINED = Style(underline=True)
LABEL = 12
"""Cells that a name along an axis has at most."""
IN_CELL = 11
"""Cells of the screen that a cell of a heat map takes at most, where a token stands in it."""
LEGIBLE = 5
"""Cells of a column in which the name of a token can be read."""
FLOW_CELL = 9, 13
"""Cells that a place of a flow takes at least and at most."""
BESIDE = " res att ff other"
"""What stands beside a flow, in percent: by what it came from the row below, and what flows through tokens that are
not shown."""
THIN = 0.1
"""The share from which on a line of a flow is as bright as letters."""
CELL = 18
"""Cells that a column of a table keeps where there is not room for all of them."""


@dataclass(frozen=True)
class Canvas:
    """How panels are drawn: with what, how wide, in which unit."""

    paint: Paint
    width: int
    bits: bool = True
    token: Callable[[int], str] = str
    """Position in the context -> the token there, safe to draw."""

    def unit(self, unit: str) -> str:
        shown = unit.replace("nats", "bits") if self.bits else unit
        return self.paint.ours("%" if unit == "share" else shown)

    def number(self, value: float | None, unit: str) -> str:
        if value is None or not math.isfinite(value):
            return "?"
        if unit == "share":
            return f"{100 * value:.1f}"
        power = {"nats": 1, "nats²": 2}.get(unit, 0) if self.bits else 0
        return figure(value / LN2**power)

    def ceiling(self, value: float, unit: str) -> str:
        """The end of a scale."""
        return f"{100 * value:.3g}" if unit == "share" else self.number(value, unit)

    def text(self, words: str) -> str:
        return visible(words, self.paint.ascii, in_table=True)

    def tokens(self, shown: Tokens) -> str:
        """One token as everywhere on the screen, several as what they spell."""
        if len(shown.ids) == 1:
            return visible_token(shown.ids[0], shown.token_bytes, self.paint.ascii)
        return visible_bytes(shown.token_bytes, self.paint.ascii)

    def names(self, axis: Axis) -> list[str]:
        return [self.text(label) for label in axis.labels] or [self.token(at) for at in axis.positions]


def drawn(panels: Sequence[Panel], canvas: Canvas) -> Iterator[Row]:
    """Every panel under its title, with an empty row between two."""
    for n, panel in enumerate(panels):
        if n:
            yield []
        match panel:
            case Heatmap():
                yield from _heatmap(panel, canvas)
            case Bars():
                yield from _bars(panel, canvas)
            case TintedText():
                yield from _tinted_text(panel, canvas)
            case Table():
                yield from _table(panel, canvas)
            case Graph():
                yield from _graph(panel, canvas)
            case Flow():
                yield from _flow(panel, canvas)
            case Note():
                yield _title(panel.title, canvas)
                yield from wrap([(canvas.text(panel.text), canvas.paint.base)], canvas.width)
            case Step():
                yield from _table(step_table(panel), canvas)


def _title(title: str, canvas: Canvas, *groups: Part) -> Row:
    return [(canvas.text(title), canvas.paint.title), *groups]


def _heatmap(panel: Heatmap, canvas: Canvas) -> Iterator[Row]:
    """As many columns as there is room for, the last of those of which something is known. Their names stand under
    them, or above them where there are tokens in the cells: then each column is read from the top."""
    paint, values = canvas.paint, list(panel.values.rows())
    n_known = 1 + max((n for row in values for n, value in enumerate(row) if not math.isnan(value)), default=-1)
    n_known = panel.columns.n if panel.tokens else n_known
    rows, columns = canvas.names(panel.rows), canvas.names(panel.columns)[:n_known]
    label = min(max(map(cells, (*rows, panel.rows.name)), default=0), LABEL) + 1
    texts = [canvas.tokens(shown) for shown in panel.tokens]
    wide = max(map(cells, columns), default=1) + 1
    width = max(min(wide, (canvas.width - label) // max(len(columns), 1)), 1)
    if texts:
        width = min(max(map(cells, texts)) + 1, IN_CELL)
    shown = max(min(len(columns), (canvas.width - label) // width), 0)
    hidden = len(columns) - shown
    top = f"{canvas.ceiling(panel.top, panel.unit)} {canvas.unit(panel.unit)}".strip()
    more: list[Part] = [(f"  the last {shown} of {len(columns)}", paint.dim)] if hidden else []
    if width < min(wide, LEGIBLE) and not panel.columns.labels:
        names = _marks(panel.columns.positions[hidden:n_known], width)
        more.append(("  columns by position", paint.dim))
    else:
        named = width > min(wide - 1, 2)
        names = "".join(fitted(name, width - 1, paint.ascii) + " " for name in columns[hidden:]) if named else ""
    below: Row = [(fitted(canvas.text(panel.rows.name), label, paint.ascii), paint.dim), (names, paint.dim)]
    yield _title(panel.title, canvas, *paint.legend("  ", "0", top, text=bool(texts)), *more)
    if texts:
        yield below
    for at, name in enumerate(rows):
        seen: Row = []
        for n in range(hidden, n_known):
            level = None if math.isnan(values[at][n]) else values[at][n] / panel.top
            if not panel.is_read(at, n):
                seen.append((" " * width, paint.base))
            elif texts:
                seen += _told(texts[at * panel.columns.n + n], level, width, paint)
            else:
                seen.append(paint.cell(level, width))
        yield [(fitted(name, label - 1, paint.ascii) + " ", paint.dim), *seen]
    if not texts:
        yield below


def _marks(positions: Sequence[int], width: int) -> str:
    """Where tokens have no room for their names: the positions of some, each from its column on."""
    row = ""
    for n, position in enumerate(positions):
        mark = row.ljust(n * width) + f"{position} "
        if len(row) <= n * width and len(mark) <= len(positions) * width + 1:
            row = mark
    return row.rstrip()


def _told(text: str, level: float | None, width: int, paint: Paint) -> Row:
    """A token in a cell of a heat map. Its ground is coloured as far as the cell goes; where there is no colour the
    letters alone are marked, since a line under the space would join neighbours."""
    style, shown = paint.tint(level, paint.base), fitted(text, width - 1, paint.ascii)
    if paint.color != "mono":
        return [(f"{shown} ", style)]
    bare = shown.rstrip()
    return [(bare, style), (" " * (width - cells(bare)), paint.base)]


def _bars(panel: Bars, canvas: Canvas) -> Iterator[Row]:
    paint, names = canvas.paint, canvas.names(panel.axis)
    label = min(max(map(cells, names), default=0), LABEL) + 1
    room = max(min(canvas.width - label - 9, 40), 4)
    yield _title(panel.title, canvas, (f"  {canvas.unit(panel.unit)}", paint.dim))
    for name, value in zip(names, panel.values, strict=True):
        share = math.nan if value is None else value / panel.top
        yield [
            (fitted(name, label - 1, paint.ascii) + " ", paint.dim),
            (canvas.number(value, panel.unit).rjust(7) + " ", paint.number),
            (paint.bar(abs(share), room), paint.final if share < 0 else paint.model),
        ]


def _tinted_text(panel: TintedText, canvas: Canvas) -> Iterator[Row]:
    """The tokens one behind the other, as long as a row has room; those below 0 underlined."""
    paint, row, used = canvas.paint, Row(), 0
    legend = paint.legend("  ", "0", f"{canvas.ceiling(panel.top, panel.unit)} {canvas.unit(panel.unit)}", text=True)
    below = [("  underlined below 0", paint.dim)] if any((value or 0) < 0 for value in panel.values) else []
    yield _title(panel.title, canvas, *legend, *below)
    for position, value in zip(panel.positions, panel.values, strict=True):
        name = fitted(token := canvas.token(position), min(cells(token), canvas.width), paint.ascii)
        if used and used + cells(name) > canvas.width:
            yield row
            row, used = [], 0
        level = None if value is None or not math.isfinite(value) else abs(value) / panel.top
        style = paint.tint(level)
        row.append((name, style + UNDERLINED if value is not None and value < 0 else style))
        used += cells(name)
    yield row


def _table(panel: Table, canvas: Canvas) -> Iterator[Row]:
    """Columns as wide as they need; those that do not fit at the end are left out, and their number is told."""
    paint = canvas.paint
    heads = [_head(column, canvas) for column in panel.columns]
    texts = [
        [_cell(cell, unit, canvas) for cell, unit in zip(row, _units(panel, row), strict=True)] for row in panel.rows
    ]
    lengths = [[cells(text) for text in (head, *(row[n] for row in texts))] for n, head in enumerate(heads)]
    widths = _widths(lengths, canvas.width)
    fits = 0
    while fits < len(widths) and sum(widths[: fits + 1]) + 2 * fits <= canvas.width:
        fits += 1
    left = len(widths) - fits
    more = f"  {left} more {'column' if left == 1 else 'columns'} in a wider terminal" if left else ""
    yield _title(panel.title, canvas, (more, paint.dim))
    numeric = [all(not row[n] or not isinstance(row[n], str | Tokens) for row in panel.rows) for n in range(fits)]

    def aligned(text: str, n: int) -> str:
        cut = fitted(text, min(cells(text), widths[n]), paint.ascii)
        space = " " * (widths[n] - cells(cut))
        return (space + cut if numeric[n] else cut + space) + ("  " if n + 1 < fits else "")

    yield [(aligned(head, n), paint.dim) for n, head in enumerate(heads[:fits])]
    for row in texts:
        yield [(aligned(text, n), paint.number if numeric[n] else paint.base) for n, text in enumerate(row[:fits])]


def _widths(lengths: list[list[int]], room: int) -> list[int]:
    """Of columns with cells of such lengths: where they do not fit beside each other the widest is cut, to CELL."""
    widths = list(map(max, lengths))
    while sum(widths) + 2 * (len(widths) - 1) > room and max(widths) > CELL:
        widths[widths.index(max(widths))] -= 1
    return widths


def _units(panel: Table, row: Sequence[Cell]) -> list[str]:
    """Of the cells of a row."""
    of_row = next((str(cell) for cell, column in zip(row, panel.columns, strict=True) if column.unit == UNIT), "")
    return [of_row if column.unit == OF_ROW else column.unit for column in panel.columns]


def _head(column: Column, canvas: Canvas) -> str:
    unit = canvas.unit(column.unit) if column.unit not in ("", UNIT, OF_ROW) else ""
    return f"{canvas.text(column.name)} {unit}".strip()


def _cell(cell: Cell, unit: str, canvas: Canvas) -> str:
    match cell:
        case None:
            return "?"
        case bool():
            return "yes" if cell else "no"
        case Tokens():
            return canvas.tokens(cell)
        case str():
            return canvas.unit(canvas.text(cell)) if unit == UNIT else canvas.text(cell)
        case int():
            return str(cell)
    return canvas.number(cell, unit)


def _graph(panel: Graph, canvas: Canvas) -> Iterator[Row]:
    """The heaviest edges first."""
    paint = canvas.paint
    labels = [canvas.text(node.label) for node in panel.nodes]
    label = min(max(map(cells, labels), default=0), 2 * LABEL)
    room = max(min(canvas.width - 2 * label - 14, 30), 4)
    yield _title(panel.title, canvas, (f"  {canvas.unit(panel.unit)}", paint.dim))
    for edge in sorted(panel.edges, key=lambda edge: -abs(edge.weight)):
        yield [
            (fitted(labels[edge.source], label, paint.ascii), paint.base),
            (f" {paint.arrow} ", paint.dim),
            (fitted(labels[edge.target], label, paint.ascii), paint.base),
            (canvas.number(edge.weight, panel.unit).rjust(8) + " ", paint.number),
            (paint.bar(abs(edge.weight) / panel.top, room), paint.model),
        ]


def _flow(panel: Flow, canvas: Canvas) -> Iterator[Row]:
    """The tokens that most flows through, as many as there is room for, side by side; a row for each layer, and lines
    between them."""
    paint, names, labels = canvas.paint, canvas.names(panel.columns), canvas.names(panel.rows)
    left = min(max(map(cells, (*labels, panel.rows.name)), default=0), LABEL) + 1
    room = max(canvas.width - left - len(BESIDE), FLOW_CELL[0])
    place, wide = _flow_columns(panel, room)
    shade = canvas.text(panel.shade or "of the flow")
    yield _title(panel.title, canvas, *paint.legend("  ", "0", f"100 % {shade}", text=True))
    heads = ""
    for column in place:
        gap = "" if not column or column - 1 in place else paint.ellipsis
        heads += fitted(f"{gap}{names[column]}", wide - 1, paint.ascii) + " "
    head = fitted(canvas.text(panel.rows.name), left, paint.ascii)
    yield [(head, paint.dim), (heads.ljust(room), paint.dim), (BESIDE, paint.dim)]
    for row, label in enumerate(labels):
        told: Row = [(fitted(label, left - 1, paint.ascii) + " ", paint.dim)]
        inside = {node.column: node for node in panel.nodes if node.row == row}
        for column in place:
            told += _place(inside.get(column), wide, canvas)
        rest = 1.0 - sum(node.share for column, node in inside.items() if column in place)
        other = f"{100 * rest:{len(BESIDE)}.0f}" if rest >= 0.005 else ""
        yield [*told, (" " * (room - wide * len(place)), paint.base), (other, paint.dim)]
        if row + 1 < len(labels):
            yield from _flow_lines(panel, row, place, (left, room), paint)


def _flow_columns(panel: Flow, room: int) -> tuple[dict[int, int], int]:
    """Column -> where it begins, of those that most flows through, and how wide each is."""
    most = [0.0] * panel.columns.n
    for node in panel.nodes:
        most[node.column] = max(most[node.column], node.share)
    carrying = sorted((n for n, share in enumerate(most) if share), key=lambda n: -most[n])
    wide = min(max(room // max(len(carrying), 1), FLOW_CELL[0]), FLOW_CELL[1])
    shown = sorted(carrying[: room // wide])
    return {column: n * wide for n, column in enumerate(shown)}, wide


def _place(node: FlowNode | None, wide: int, canvas: Canvas) -> Row:
    """The token at a place and how much flows through it, in percent."""
    if node is None:
        return [(" " * wide, canvas.paint.base)]
    word, share = canvas.tokens(node.token) if node.token else "", f" {100 * node.share:.0f}"
    word = fitted(word, min(cells(word), wide - 1 - len(share)), canvas.paint.ascii)
    told = fitted(word + share, wide - 1, canvas.paint.ascii)
    return [(told, canvas.paint.tint(node.level)), (" ", canvas.paint.base)]


def _flow_lines(
    panel: Flow, row: int, place: Mapping[int, int], size: tuple[int, int], paint: Paint
) -> Iterator[Row]:
    """From a row down to the next one. size: cells to the left, and of the places."""
    left, room = size
    edges = [
        Line(place[above.column] + 1, place[below.column] + 1, edge.share)
        for edge in panel.edges
        for above, below in [(panel.nodes[edge.above], panel.nodes[edge.below])]
        if above.row == row and above.column in place and below.column in place
    ]
    for n, line in enumerate(lines_between(edges, paint.ascii)):
        lined: Row = [(" " * left, paint.base)]
        for at in range(room):
            one = line.get(at)
            thin = paint.base if one and one.share >= THIN else paint.dim
            lined.append((" ", paint.base) if not one else (one.text, paint.accent if one.share >= HEAVY else thin))
        yield [*lined, ("" if n else _came_by(panel.parts[row]), paint.dim)]


def _came_by(row: FlowRow) -> str:
    parts = row.residual, row.attention, row.feed_forward
    told = ["?" if part is None else f"{100 * part:.0f}" for part in parts]
    return "{:>4}{:>4}{:>3}".format(*told)


def step_table(step: Step) -> Table:
    """The candidates of a step, with the token that was drawn first."""
    columns = Column("token"), Column("model p", "share"), Column("final p", "share"), Column("cut by")
    rows: list[tuple[Cell, ...]] = [
        (Tokens((one.token_id,), one.token_bytes), math.exp(min(one.logprob, 0.0)), one.final_prob, one.cut or "")
        for one in step.candidates
    ]
    if not any(one.token_id == step.token_id for one in step.candidates):
        rows.insert(0, (Tokens((step.token_id,), step.token_bytes), math.exp(-step.surprisal), step.final_prob, ""))
    return Table(f"step {step.index + 1}: candidates", columns, tuple(rows))
