"""What stands under a chart: pins where knobs, vectors and branches change, and a line where a vector is on."""

from __future__ import annotations

from collections.abc import Sequence

from textual.strip import Strip

from tui_entropy.ui.charts.time_axis import TimeAxis
from tui_entropy.ui.drawing.bands import Band, bands, forks
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.views.frame import Frame


def visible_bands(frame: Frame, axis: TimeAxis) -> list[Band]:
    return [
        band
        for band in bands(frame.log.run)
        if band.first < axis.last and (band.last is None or band.last > axis.first)
    ]


def pinned_columns(frame: Frame, axis: TimeAxis) -> dict[int, list[str]]:
    """The columns under which something changes, in their order -> the names of the changes."""
    columns: dict[int, list[str]] = {}
    for mark in sorted([*frame.log.marks, *forks(frame.log)], key=lambda mark: mark.index):
        if axis.first <= mark.index < axis.last:
            columns.setdefault(axis.column(mark.index), []).append(visible(mark.label, frame.paint.ascii, True))
    return columns


def _pins_row(frame: Frame, axis: TimeAxis, on: Sequence[Band], left: int, width: int) -> Strip:
    """Pins with their labels to the left, or the right, where there is room; behind them the line of the vectors that
    have no row of their own. left, width: cells before the first column, and of the whole row at most."""
    paint, by_column = frame.paint, pinned_columns(frame, axis)
    row = [*" " * left, *(_line(frame, axis, on, column) for column in range(axis.columns))]
    if len({band.name for band in on}) == 1 and on[0].first < axis.first:
        row[:left] = fitted(f"{visible(on[-1].name, paint.ascii, True)} {on[-1].amount}", left, paint.ascii)
    pins = sorted(by_column)
    free = 0
    for n, at in enumerate(pins):
        label = paint.ours(", ".join(by_column[at]))
        pin, beyond = left + at, left + pins[n + 1] if n + 1 < len(pins) else len(row)
        begin = pin - len(label) - 1
        if begin < free and pin + len(label) + 2 < beyond:
            begin = pin + 2
        if begin >= free:
            row[begin : begin + len(label)] = label
            row[begin - 1 : begin] = row[begin + len(label) : begin + len(label) + 1] = " "
        row[pin] = paint.pin
        free = max(pin, begin + len(label)) + 2
    return paint.row([("".join(row), paint.mark)], min(left + axis.columns, width))


def n_band_rows(on: Sequence[Band], room: int) -> int:
    """How many vectors have a row of their own, where there are so many rows to spare."""
    return min(len({band.name for band in on}), max(room, 0))


def change_rows(frame: Frame, axis: TimeAxis, on: Sequence[Band], n_rows: int, left: int, width: int) -> list[Strip]:
    """The pins, and below them a row for each of so many vectors; without those their lines stand behind the pins."""
    names = list(dict.fromkeys(band.name for band in on))[:n_rows]
    rows = [_band_row(frame, axis, [band for band in on if band.name == name], left, width) for name in names]
    return [_pins_row(frame, axis, [] if names else on, left, width), *rows]


def _band_row(frame: Frame, axis: TimeAxis, on: Sequence[Band], left: int, width: int) -> Strip:
    """One vector: where it is on, how strong, and what it does with the text before."""
    paint, at = frame.paint, frame.cursor
    row = [_line(frame, axis, on, column) for column in range(axis.columns)]
    for band in on:
        begin = axis.column(max(band.first, axis.first))
        label = f"{band.amount} {band.policy} "
        end = axis.column(frame.last if band.last is None else band.last - 1) + 1
        if min(len(row), end) - begin > len(label):
            row[begin + 1 : begin + 1 + len(label)] = f" {label}"[: len(label)]
    here = next((band for band in on if at is not None and band.covers(at)), None)
    tail: Part = (f" {here.policy}" if here else "", paint.dim)
    name = fitted(visible(on[0].name, paint.ascii, True), left - 1, paint.ascii).ljust(left - 1)
    return paint.row([(f"{name} ", paint.title), ("".join(row), paint.mark), tail], width)


def _line(frame: Frame, axis: TimeAxis, on: Sequence[Band], column: int) -> str:
    """A double line where the text before is read again under a vector, a single one where it is not."""
    paint = frame.paint
    steps = axis.steps(column) or (axis.step(column),)
    policies = {band.rebuilt for band in on for index in steps if index <= frame.last and band.covers(index)}
    return (paint.double if True in policies else paint.line) if policies else " "
