"""An answer of a probe, or results, on stdout: as on the screen, in the colours that stdout can show."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.segment import Segment, Segments

from tui_entropy.core import streams
from tui_entropy.core.look import Look
from tui_entropy.records.corpus.results import Listing, Results
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Table
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.capture.snapshot import encode, write_files
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import load
from tui_entropy.ui.results.curves import chart_rows
from tui_entropy.ui.terminal.detect import TEXTUAL_COLORS, color_mode
from tui_entropy.ui.views.panels import Canvas, Row, drawn
from tui_entropy.ui.views.wording import token_at, wrap

WIDTH = 120
"""Cells of a line where stdout is no terminal."""
CHART_ROWS = 22


def show(answer: ProbeAnswer, log: SessionView, bits: bool, look: Look) -> None:
    """Print an answer about the text of a log. Raises UserError for a look that there is not."""
    _print(lambda paint, width: _rows(answer, _canvas(answer, log, paint, width, bits, look)), look)


def picture(answer: ProbeAnswer, log: SessionView, bits: bool, look: Look, file: Path) -> None:
    """The same as a picture. Raises UserError where it cannot be written."""
    paint = Paint(load(look.theme), "truecolor", look.ascii_only)
    rows = _rows(answer, _canvas(answer, log, paint, WIDTH, bits, look))
    strips = [paint.row(row, WIDTH).adjust_cell_length(WIDTH, paint.base) for row in rows]
    write_files({file: encode(file, strips, paint.theme.dark)})


def show_results(results: Results, bits: bool, look: Look) -> None:
    """Print the table of results, and what its first row opens into, with its curves. Raises UserError."""
    _print(lambda paint, width: _results_rows(results, Canvas(paint, width, bits)), look)


def _canvas(answer: ProbeAnswer, log: SessionView, paint: Paint, width: int, bits: bool, look: Look) -> Canvas:
    return Canvas(paint, width, bits, lambda position: token_at(log, position, look.ascii_only))


def _print(rows_of: Callable[[Paint, int], Iterator[Row]], look: Look) -> None:
    """rows_of: given how to draw, and how wide."""
    is_terminal = sys.stdout.isatty()
    mode = "mono" if look.color == "auto" and not is_terminal else color_mode(look.color, os.environ)
    styled = mode != "mono" or is_terminal
    paint = Paint(load(look.theme), mode, look.ascii_only, styled)
    console = Console(
        highlight=False,
        width=None if is_terminal else WIDTH,
        force_terminal=styled,
        color_system=TEXTUAL_COLORS[mode] if styled else None,  # type: ignore[arg-type]
    )
    segments = []
    for row in rows_of(paint, console.width):
        strip = paint.row(row, console.width)
        if paint.rich:  # a theme has a ground of its own, up to the end of the line
            strip = strip.adjust_cell_length(console.width, paint.base)
        segments += [*strip, Segment("\n")]
    with console.capture() as captured:
        console.print(Segments(segments), end="")
    lines = (line.rstrip() if mode == "mono" else line for line in captured.get().splitlines())
    streams.put_drawn("".join(f"{line}\n" for line in lines))


def _results_rows(results: Results, canvas: Canvas) -> Iterator[Row]:
    paint = canvas.paint
    yield [(canvas.text(results.title), paint.title)]
    yield []
    yield from _listing_rows(results.listing, canvas)
    first = next((row for row in results.listing.rows if row.inside is not None), None)
    if results.charts:
        yield []
        yield from chart_rows(results.charts[first.chart or 0 if first else 0], canvas, CHART_ROWS)
    if first is not None and first.inside is not None and not any(row.opens for row in first.inside.rows):
        yield []
        yield from _listing_rows(first.inside, canvas)


def _listing_rows(listing: Listing, canvas: Canvas) -> Iterator[Row]:
    yield from drawn([Table(listing.title, listing.columns, tuple(row.cells for row in listing.rows))], canvas)
    if listing.note:
        yield from wrap([(canvas.text(listing.note), canvas.paint.dim)], canvas.width)


def _rows(answer: ProbeAnswer, canvas: Canvas) -> Iterator[Row]:
    """The question, what came of it, and how long that took."""
    paint = canvas.paint
    token = canvas.token(answer.position)
    which = "the token that comes next" if token == "?" else token
    where = f" of {which} at position {answer.position}, run {answer.run}"
    yield [(canvas.text(answer.name), paint.title), (where, paint.base)]
    yield []
    if answer.unavailable is not None:
        yield [("no answer: ", paint.warning), (canvas.text(answer.unavailable), paint.base)]
        return
    yield from drawn(answer.panels, canvas)
