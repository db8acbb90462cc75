"""The tokens that could have come next, under the model and after the sampling chain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import ClassVar

from textual import events
from textual.strip import Strip

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import probability_of
from tui_entropy.records.step import Candidate, Shadow, Step
from tui_entropy.state.run_view import SHORT_NAMES
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible_bytes, visible_token
from tui_entropy.ui.drawing.paint import Paint, Part, figure
from tui_entropy.ui.keys.needs import acts
from tui_entropy.ui.views.frame import SUPPOSED, Frame
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import state

NUMBER, TOKEN = 6, 13
"""Cells of a percentage, and of a token before bars may grow."""
SHADOW = 9
FIXED = 5 + 2 * NUMBER + 3
"""Cells of a row beside token and bars."""


class Candidates(View, can_focus=True):
    """Twenty rows that are new with every token: nobody reads them faster than that."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"
    OF_STEP: ClassVar[bool] = True

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, step = frame.paint, frame.seen
        shadow = step.shadow if step else None
        room = width - SHADOW if shadow else width
        bar = max((room - TOKEN - FIXED) // 2, 3)
        name = max(room - FIXED - 2 * bar, 4)
        columns = "model %  final %".ljust(NUMBER + 3 + NUMBER + bar) + ("shadow %" if shadow else "")
        name_of = f"run {frame.log.run_number}" if frame.log.twin else "next token"
        heading = self.heading(frame, name_of, frame.where, width, columns)
        if step is None:
            hint = "What the model would write next, how likely, and what the sampler cut."
            return [heading, *paint.hint(hint, width)][:height]
        below, shown = _laid(frame, step, width, height - 1)
        table: list[Strip] = []
        for token in shown:
            candidate = step.candidates[token - 1] if token else _written(step)
            chosen = token == frame.token != 0
            row = _row(paint, token or step.rank, candidate, step.token_id, chosen, name, bar)
            beside = [(f"{_percent(_shadowed(shadow, token)):>{SHADOW}}", paint.base)] if shadow else []
            table.append(paint.row(row, width, beside))
        table += [Strip([])] * (height - 1 - len(below) - len(table))
        return [heading, *table, *(paint.row(row, width) for row in below)]

    def on_click(self, event: events.Click) -> None:
        """A click chooses a candidate."""
        frame = self.frame
        if frame is not None and (step := frame.seen) is not None:
            _, shown = _laid(frame, step, self.size.width, self.size.height - 1)
            if 1 <= event.y <= len(shown):
                self.post_message(self.TokenAsked(shown[event.y - 1]))


def _laid(frame: Frame, step: Step, width: int, room: int) -> tuple[list[list[Part]], list[int]]:
    """The rows below the table; and what each row of it shows: the n-th candidate, or 0, in the last one, for the
    written token where that is further down. The chosen one is always in view."""
    facts = [*_would(frame, step), *_packed(frame, _watched(frame, step), width)]
    below = [*facts, *_packed(frame, _each_fact(frame, step), width)][: max(room - 5, 0)]
    known, token, room = len(step.candidates), min(frame.token, len(step.candidates)), max(room - len(below), 0)
    rows = min(room, known)
    first = max(token - rows, 0)
    if not room or step.rank <= first + rows:
        return below, list(range(first + 1, first + rows + 1))
    rows = min(room, known + 1)
    first = max(token - rows + 1, 0)
    return below, [*range(first + 1, first + rows), 0]


def _shadowed(shadow: Shadow, token: int) -> float:
    """The probability that the shadow gave the n-th candidate, or with 0 the written token; NaN where unknown."""
    if token == 0:
        return probability_of(-shadow.surprisal)
    return probability_of(shadow.logprobs[token - 1]) if token <= len(shadow.logprobs) else math.nan


def _written(step: Step) -> Candidate:
    return Candidate(step.token_id, step.token_bytes, -step.surprisal, step.final_prob)


def _would(frame: Frame, step: Step) -> Iterator[list[Part]]:
    """The lines that say whether this is only supposed, and what enter does."""
    paint, chosen = frame.paint, frame.candidate
    if frame.what_if:
        yield [(SUPPOSED, paint.warning)]
    if not acts(frame, "take"):
        return
    meant = chosen or step
    token = visible_token(meant.token_id, meant.token_bytes, paint.ascii)
    does: list[Part] = [("write ", paint.base), (token, paint.accent), (f" at step {step.index + 1}", paint.base)]
    if chosen is None and not frame.held_up:
        does = [(f"a new branch before step {step.index + 1}", paint.base)]
    then = ", then stop" if frame.log.state == "paused" else ""
    yield [("enter ", paint.number), *does, (then, paint.base)]


def _watched(frame: Frame, step: Step) -> Iterator[list[Part]]:
    """Each string that is followed: probability and rank, where they are known."""
    paint, seen = frame.paint, {one.token_id: one for one in step.watched}
    for watch in frame.log.run.watches:
        one = seen.get(watch.token_id)
        name = visible_bytes(watch.text.encode(), paint.ascii)
        number = "?" if one is None else f"{_percent(probability_of(one.logprob)).strip()} %"
        rank = [] if one is None else [(f" rank {one.rank}", paint.dim)]
        yield [(f"{fitted(name, min(cells(name), TOKEN), paint.ascii)} ", paint.base), (number, paint.number), *rank]


def _row(
    paint: Paint, rank: int, candidate: Candidate, written: int, chosen: bool, name: int, bar: int
) -> list[Part]:
    probability, drawn = probability_of(candidate.logprob), candidate.token_id == written
    token = fitted(visible_token(candidate.token_id, candidate.token_bytes, paint.ascii), name, paint.ascii)
    dim = paint.base if candidate.cut is None else paint.dim
    row: list[Part] = [
        (f"{rank:>3}", paint.dim),
        (paint.drawn if drawn else " ", paint.accent),
        (f"{token} ", paint.selected if chosen else paint.accent if drawn else dim),
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


def _percent(probability: float) -> str:
    percent = 100 * probability
    if math.isnan(percent):
        return f"{'?':>{NUMBER}}"
    text = f"{percent:.1f}" if percent >= 0.1 or percent == 0 else f"{percent:.3f}" if percent >= 0.001 else "<.001"
    return f"{text:>{NUMBER}}"


def _packed(frame: Frame, facts: Iterable[list[Part]], width: int) -> Iterator[list[Part]]:
    """Facts in as few rows as they fit into whole."""
    row: list[Part] = []
    room = 0
    for fact in facts:
        size = sum(cells(text) for text, _ in fact)
        if row and size > room:
            yield row
            row = []
        room = (room if row else width) - size - 2
        row += [*([("  ", frame.paint.base)] if row else []), *fact]
    if row:
        yield row


def _each_fact(frame: Frame, step: Step) -> Iterator[list[Part]]:
    """The facts that are known of the step, most wanted first."""
    paint = frame.paint

    def measured(name: str) -> list[Part]:
        metric = BY_NAME[name]
        unit = paint.ours(metric.unit(frame.bits))
        number = figure(metric.value(step, frame.bits))
        return [(f"{name} ", paint.dim), (number, paint.number), (f" {unit}".rstrip(), paint.dim)]

    yield measured("entropy")
    yield measured("varentropy")
    yield measured("surprisal")
    yield [("rank ", paint.dim), (str(step.rank), paint.number)]
    yield from state(frame, step)
    yield measured("final entropy")
    yield measured("prob margin")
    yield measured("logit margin")
    luck = "forced" if step.forced else f"draw seed {frame.log.knobs_at(step.index).seed}"
    yield [(f"{luck} at {step.position}", paint.warning if step.forced else paint.dim)]
    left = frame.log.card.vocab if frame.log.card else None
    counts = [] if left is None else [str(left)]
    for stage in step.stages:
        if stage.survivors != left:  # a stage that took nothing away is not worth its cells
            mass = f" ({100 * stage.mass:.3g}%)" if stage.mass < 1 else ""
            counts.append(f"{paint.ours(SHORT_NAMES.get(stage.name, stage.name))} {stage.survivors}{mass}")
        left = stage.survivors
    yield [("left: ", paint.dim), (f" {paint.arrow} ".join(counts) or "all", paint.base)]
