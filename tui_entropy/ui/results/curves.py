"""Curves over one axis as rows of cells: many faint ones, a band, and those that it is about, one over the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.style import Style

from tui_entropy.records.corpus.results import Curve, CurveChart
from tui_entropy.ui.charts.lines import drawn_lines
from tui_entropy.ui.drawing.glyphs import cells, fitted
from tui_entropy.ui.drawing.paint import Paint, Part
from tui_entropy.ui.views.panels import Canvas, Row

LABEL = 8
"""Cells of the numbers to the left."""
LEAST = 30, 8
"""Cells and rows with fewer of which nothing is drawn."""
BELOW = 2
"""Rows under the curves: the axis and its numbers."""
USUAL, CUT = 0.9, 4.0
"""Above the value that so many do not exceed the rest is cut off, where the largest is so many times as large."""
MAX_FAINT = 60
"""Faint curves that are drawn; more are a blot."""


def chart_rows(chart: CurveChart, canvas: Canvas, height: int) -> list[Row]:
    """The title, the curves, the axis and its numbers. Nothing where there is no room, or nothing is known."""
    x, y = _span([at for curve in chart.curves for at in curve.x]), _values(chart)
    width, high = canvas.width - LABEL, height - BELOW - 2
    if canvas.width < LEAST[0] or height < LEAST[1] or x is None or y is None:
        return []
    layers = list(_layers(chart, x, y, width, high, canvas.paint))
    rows: list[Row] = [*_heading(chart, canvas, y[1])]
    for n in range(high):
        row: list[Part] = [(_scale(chart, canvas, y, n, high), canvas.paint.dim)]
        rows.append([*row, *_laid([(lines[n], style) for lines, style in layers], width, canvas.paint)])
    return [*rows, *_axis(chart, canvas, x, width)]


def _span(values: Sequence[float]) -> tuple[float, float] | None:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    low, high = min(known), max(known)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _values(chart: CurveChart) -> tuple[float, float] | None:
    """From the least to the most, from 0 where that is near."""
    every = [value for curve in chart.curves for value in curve.y if value is not None]
    every += [value for value in (*chart.low, *chart.high) if value is not None]
    span = _span(every)
    if span is None:
        return None
    low, high = span
    usual = sorted(every)[int(USUAL * (len(every) - 1))]
    if usual > 0 and high > CUT * usual:  # a few that are far above would press all others to the ground
        high = usual * 1.5
    return (0.0 if 0 < low < high / 2 else low), high


def _layers(
    chart: CurveChart, x: tuple[float, float], y: tuple[float, float], width: int, high: int, paint: Paint
) -> Iterator[tuple[list[str], Style]]:
    """Rows of glyphs with the style that they are drawn in, the lowest first."""
    if chart.low:
        yield _band(chart, x, y, width, high, paint), paint.rule
    faint = [curve for curve in chart.curves if curve.emphasis == 0]
    every = max(math.ceil(len(faint) / MAX_FAINT), 1)
    for curves, style in (
        (faint[::every], paint.dim),
        ([curve for curve in chart.curves if curve.emphasis == 2], paint.model),
        ([curve for curve in chart.curves if curve.emphasis == 1], paint.hot),
    ):
        if curves:
            yield _drawn(curves, x, y, width, high, paint.ascii), style


def _drawn(
    curves: Sequence[Curve], x: tuple[float, float], y: tuple[float, float], width: int, high: int, ascii_only: bool
) -> list[str]:
    inside = (
        (places, [min(max(value, y[0]), y[1]) for value in values])
        for curve in curves
        for places, values in _stretches(curve)
    )
    return drawn_lines(inside, x, y, width, high, ascii_only)


def _stretches(curve: Curve) -> Iterator[tuple[list[float], list[float]]]:
    """What lies between places where nothing is known."""
    places: list[float] = []
    values: list[float] = []
    for at, value in zip(curve.x, curve.y, strict=True):
        if value is None or not math.isfinite(value):
            if places:
                yield places, values
            places, values = [], []
            continue
        places.append(at)
        values.append(value)
    if places:
        yield places, values


def _band(
    chart: CurveChart, x: tuple[float, float], y: tuple[float, float], width: int, high: int, paint: Paint
) -> list[str]:
    """Shaded between its bounds, which are joined from place to place."""
    places = chart.curves[0].x
    shaded = [[" "] * width for _ in range(high)]
    for column in range(width):
        at = x[0] + (x[1] - x[0]) * (column + 0.5) / width
        pair = _between(places, chart.low, at), _between(places, chart.high, at)
        if pair[0] is None or pair[1] is None:
            continue
        low, high_ = (high * (value - y[0]) / (y[1] - y[0]) for value in pair)  # type: ignore[operator]
        for row in range(max(int(low), 0), min(math.ceil(high_), high)):
            shaded[high - 1 - row][column] = paint.between_bounds
    return ["".join(row) for row in shaded]


def _between(places: Sequence[float], values: Sequence[float | None], at: float) -> float | None:
    """The value at a place, on the line between its neighbours."""
    for n in range(len(places) - 1):
        if places[n] <= at <= places[n + 1]:
            one, other = values[n], values[n + 1]
            if one is None or other is None or places[n] == places[n + 1]:
                return None
            return one + (other - one) * (at - places[n]) / (places[n + 1] - places[n])
    return None


def _laid(layers: Sequence[tuple[str, Style]], width: int, paint: Paint) -> Iterator[Part]:
    for column in range(width):
        glyph, style = next(
            ((line[column], style) for line, style in reversed(layers) if line[column].strip("\u2800 ")),
            (" ", paint.base),
        )
        yield glyph, style


def _heading(chart: CurveChart, canvas: Canvas, top: float) -> Iterator[Row]:
    paint, unit = canvas.paint, canvas.unit(chart.y.unit)
    yield [(fitted(canvas.text(chart.title), canvas.width, paint.ascii), paint.title)]
    row: Row = [(f"{canvas.text(chart.y.name)} {unit}".rstrip(), paint.dim)]
    most = max((value for curve in chart.curves for value in curve.y if value is not None), default=top)
    if most > top:
        row += [(f" up to {canvas.number(most, chart.y.unit)}", paint.warning)]
    for emphasis, style in ((1, paint.hot), (2, paint.model)):
        names = [canvas.text(curve.name) for curve in chart.curves if curve.emphasis == emphasis and curve.name]
        if names:
            row += [(f"   {paint.line * 2} ", style), (", ".join(dict.fromkeys(names)), paint.dim)]
    faint = [curve for curve in chart.curves if curve.emphasis == 0]
    if faint:
        row += [(f"   {paint.line * 2} {len(faint)} {canvas.text(faint[0].name)}".rstrip(), paint.dim)]
    yield row


def _scale(chart: CurveChart, canvas: Canvas, y: tuple[float, float], row: int, high: int) -> str:
    """The numbers at the ends of the scale and in its middle."""
    at = {0: y[1], high - 1: y[0]}
    if high >= 7 and high % 2:
        at[high // 2] = (y[0] + y[1]) / 2
    number = canvas.number(at[row], chart.y.unit) if row in at else ""
    return f"{number:>{LABEL - 2}} {canvas.paint.wall}"


def _axis(chart: CurveChart, canvas: Canvas, x: tuple[float, float], width: int) -> Iterator[Row]:
    paint = canvas.paint
    corner, line = ("+", "-") if paint.ascii else ("└", "─")
    yield [(" " * (LABEL - 1) + corner + line * width, paint.dim)]
    low, high = (f"{end:g}" if end == round(end) else f"{end:.2g}" for end in x)
    name = fitted(canvas.text(chart.x), max(width - cells(low) - cells(high) - 2, 0), paint.ascii)
    yield [(" " * LABEL + low + name.center(width - cells(low) - cells(high)) + high, paint.dim)]
