"""The tokens that could have come next, under the model and after the sampling chain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from textual.strip import Strip

from tui_entropy.log import SHORT_NAMES
from tui_entropy.records import Candidate, Step
from tui_entropy.series import BY_NAME
from tui_entropy.ui.glyphs import cells, fitted, visible_bytes
from tui_entropy.ui.paint import Paint, Part, figure
from tui_entropy.ui.verdict import state
from tui_entropy.ui.view import HEAVY, Frame, View

NUMBER, TOKEN = 6, 13
"""Cells of a percentage, and of a token before bars may grow."""
FIXED = 5 + 2 * NUMBER + 3
"""Cells of a row beside token and bars."""


class Candidates(View, can_focus=True):
    """Twenty rows that are new with every token: nobody reads them faster than five times a second."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, step = frame.paint, frame.step
        bar = max((width - TOKEN - FIXED) // 2, 3)
        name = max(width - FIXED - 2 * bar, 4)
        title = [] if frame.cursor is None else [f"step {frame.cursor + 1}"]
        columns = "model %  final %".ljust(NUMBER + 3 + NUMBER + bar)
        heading = self.heading(frame, "next token", title, width, columns)
        if step is None:
            hint = "What the model would write next, how likely, and what the sampler cut."
            return [heading, *paint.hint(hint, width)][:height]
        below = list(_facts(frame, step, width))
        room = height - 1
        below = below[: max(room - 5, 0)]
        rows = [_row(paint, n, c, c.token_id == step.token_id, name, bar) for n, c in enumerate(step.candidates, 1)]
        rows = rows[: room - len(below)]
        if step.rank > len(rows) and rows:
            rows[-1] = _drawn(paint, step, name, bar)
        rows += [[]] * (room - len(below) - len(rows))
        return [heading, *(paint.row(row, width) for row in [*rows, *below])]


def _row(paint: Paint, rank: int, candidate: Candidate, drawn: bool, name: int, bar: int) -> list[Part]:
    probability = math.exp(candidate.logprob)
    token = fitted(visible_bytes(candidate.data, paint.ascii), name, paint.ascii)
    dim = paint.base if candidate.cut is None else paint.dim
    row: list[Part] = [
        (f"{rank:>3}", paint.dim),
        (paint.drawn if drawn else " ", paint.accent),
        (f"{token} ", paint.accent if drawn else dim),
        (paint.bar(probability, bar), paint.model),
        (_percent(probability), dim),
    ]
    if candidate.cut is not None:
        return [
            *row,
            ("  " + fitted(paint.ours(SHORT_NAMES.get(candidate.cut, candidate.cut)), NUMBER + bar), paint.dim),
        ]
    return [
        *row,
        (" ", paint.base),
        (f"{_percent(candidate.final_prob)} ", dim),
        (paint.bar(candidate.final_prob, bar), paint.final),
    ]


def _drawn(paint: Paint, step: Step, name: int, bar: int) -> list[Part]:
    """The written token where it is none of the candidates shown."""
    return _row(
        paint, step.rank, Candidate(step.token_id, step.data, -step.surprisal, step.final_prob), True, name, bar
    )


def _percent(probability: float) -> str:
    percent = 100 * probability
    text = f"{percent:.1f}" if percent >= 0.1 or percent == 0 else f"{percent:.3f}" if percent >= 0.001 else "<.001"
    return f"{text:>{NUMBER}}"


def _facts(frame: Frame, step: Step, width: int) -> Iterator[list[Part]]:
    """What is known of the step, most wanted first, in as few rows as its parts fit into whole."""
    row: list[Part] = []
    room = 0
    for fact in _each_fact(frame, step):
        size = sum(cells(text) for text, _ in fact)
        if row and size > room:
            yield row
            row = []
        room = (room if row else width) - size - 2
        row += [*([("  ", frame.paint.base)] if row else []), *fact]
    yield row


def _each_fact(frame: Frame, step: Step) -> Iterator[list[Part]]:
    paint = frame.paint

    def measured(name: str) -> list[Part]:
        series = BY_NAME[name]
        unit = paint.ours(series.unit(frame.bits))
        number = figure(series.value(step, frame.bits))
        return [(f"{name} ", paint.dim), (number, paint.number), (f" {unit}".rstrip(), paint.dim)]

    yield measured("entropy")
    yield measured("varentropy")
    yield measured("surprisal")
    yield [("rank ", paint.dim), (str(step.rank), paint.number)]
    yield from state(frame, step)
    yield measured("final entropy")
    yield measured("prob margin")
    yield measured("logit margin")
    yield [(f"draw seed {frame.log.knobs_at(step.index).seed} at {step.position}", paint.dim)]
    left = frame.log.card.vocab if frame.log.card else None
    counts = [] if left is None else [str(left)]
    for stage in step.stages:
        if stage.survivors != left:  # a stage that took nothing away is not worth its cells
            mass = f" ({100 * stage.mass:.3g}%)" if stage.mass < 1 else ""
            counts.append(f"{paint.ours(SHORT_NAMES.get(stage.name, stage.name))} {stage.survivors}{mass}")
        left = stage.survivors
    yield [("left: ", paint.dim), (f" {paint.arrow} ".join(counts) or "all", paint.base)]
