"""An answer of a probe on stdout: its panels as on the screen, in the colours that stdout can show."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.segment import Segment, Segments

from tui_entropy.core import streams
from tui_entropy.core.look import Look
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import load
from tui_entropy.ui.terminal.detect import TEXTUAL_COLORS, color_mode
from tui_entropy.ui.views.panels import Canvas, Row, drawn
from tui_entropy.ui.views.wording import token_at

WIDTH = 120
"""Cells of a line where stdout is no terminal."""


def show(answer: ProbeAnswer, log: SessionView, bits: bool, look: Look) -> None:
    """Print an answer about the text of a log. Raises UserError for a look that there is not."""
    is_terminal = sys.stdout.isatty()
    mode = "mono" if look.color == "auto" and not is_terminal else color_mode(look.color, os.environ)
    paint = Paint(load(look.theme), mode, look.ascii_only)
    console = Console(
        highlight=False,
        width=None if is_terminal else WIDTH,
        force_terminal=mode != "mono" or is_terminal,
        color_system=None if mode == "mono" and not is_terminal else TEXTUAL_COLORS[mode],  # type: ignore[arg-type]
    )
    canvas = Canvas(paint, console.width, bits, lambda position: token_at(log, position, look.ascii_only))
    segments = []
    for row in _rows(answer, canvas):
        strip = paint.row(row, canvas.width)
        if paint.rich:  # a theme has a ground of its own, up to the end of the line
            strip = strip.adjust_cell_length(canvas.width, paint.base)
        segments += [*strip, Segment("\n")]
    with console.capture() as captured:
        console.print(Segments(segments), end="")
    lines = (line.rstrip() if mode == "mono" else line for line in captured.get().splitlines())
    streams.put_drawn("".join(f"{line}\n" for line in lines))


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
