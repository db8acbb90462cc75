"""Every series in a table: its value at the cursor, its mean and deviation so far, and its course."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.strip import Strip

from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import METRICS
from tui_entropy.state.step_store import StepStore
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.paint import Group, Part, figure
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View, around
from tui_entropy.ui.views.wording import reading, state, wrap

OF, UNIT = 12, 8
CHUNK = 512
Moments = tuple[int, float, float]
"""Count, mean, and sum of squared deviations from it."""


class Running:
    """Mean and population deviation of a series over the steps up to any one: kept for every CHUNK steps, so that no
    more than one chunk is read anew wherever the cursor goes. Unknown values are passed over."""

    def __init__(self) -> None:
        self._kept: list[Moments] = [(0, 0.0, 0.0)]

    def over(self, steps: StepStore, metric: Metric, n: int) -> tuple[float, float]:
        """Mean and deviation of the first n steps; NaN where all are unknown."""
        while len(self._kept) <= n // CHUNK:
            first = (len(self._kept) - 1) * CHUNK
            self._kept.append(_merged(self._kept[-1], steps.values(metric, first, first + CHUNK)))
        at = n // CHUNK
        count, mean, squares = _merged(self._kept[at], steps.values(metric, at * CHUNK, n))
        return (mean, math.sqrt(squares / count)) if count else (math.nan, math.nan)


def _merged(before: Moments, values: Iterator[float | None]) -> Moments:
    """With further values (Chan, Golub and LeVeque 1979)."""
    known = [value for value in values if value is not None]
    if not known:
        return before
    count, mean, squares = before
    their_mean = sum(known) / len(known)
    off, total = their_mean - mean, count + len(known)
    apart = [value - their_mean for value in known]
    squares += sum(map(operator.mul, apart, apart)) + off * off * count * len(known) / total
    return total, mean + off * len(known) / total, squares


@dataclass(frozen=True)
class NumbersState:
    """The state that the page of numbers keeps."""

    chosen: Metric = METRICS[0]
    """The row that its keys act on."""


class Numbers(View):
    """The chosen row is always in view."""

    PACE: ClassVar[float] = HEAVY
    OF_STEP: ClassVar[bool] = True

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._steps: StepStore | None = None
        self._so_far: dict[str, Running] = {}

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, step = frame.paint, frame.step
        if self._steps is not frame.log.steps:
            self._steps, self._so_far = frame.log.steps, {metric.name: Running() for metric in METRICS}
        where: list[Group] = [*frame.where_of_all, *state(frame, step)] if step else []
        head = [self.heading(frame, "numbers", where, width), _perplexities(frame, width)]
        about = list(_about(frame, width))
        name, cell = (29, 9) if width >= 96 else (23, 8)
        wide = max(width - 4 - name - OF - 3 * cell - UNIT - 2, 0)
        title = f" tc {'series':<{name}} {'of':<{OF - 1}}{'now':>{cell}} {'unit':<{UNIT - 1}}"
        title += f"{'mean':>{cell}}{'std':>{cell}}"
        title += f"  newest {wide}, each from its least to its most" if wide >= 45 else f"  newest {wide}"[: wide + 2]
        room = max(height - len(head) - 1 - len(about), 1)
        listed, at = _listed(frame)
        seen = around(at, len(listed), room)
        rows = [self._row(frame, metric, name, cell, wide, width) for metric in listed[seen]]
        return [*head, paint.row([(title, paint.dim)], width), *rows, *about][:height]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        listed, at = _listed(frame)
        return frame.put(NumbersState, chosen=listed[min(max(at + by, 0), len(listed) - 1)])

    def _row(self, frame: Frame, metric: Metric, name: int, cell: int, wide: int, width: int) -> Strip:
        paint = frame.paint
        written = 0 if frame.cursor is None else min(frame.cursor + 1, len(frame.log.steps))
        here = metric == frame.of(NumbersState).chosen
        value = metric.value(frame.step, frame.bits) if metric.kind == "count" and frame.step else None
        now = reading(frame, metric, cell) if value is None else f"{value:.0f}"
        mean, deviation = self._so_far[metric.name].over(frame.log.steps, metric, written)
        uses = ("t" if metric == frame.tint else " ") + ("c" if metric in frame.chart_series else " ")
        trust = frame.trust_of(metric)
        unit = paint.ours(metric.unit(frame.bits))
        return paint.row(
            [
                (paint.drawn if here else " ", paint.accent),
                (f"{uses} ", paint.accent),
                (fitted(metric.name, name, paint.ascii), paint.selected if here else paint.base),
                (f" {metric.distribution:<10}", paint.dim),
                (paint.trusted[trust.level][0].strip() if trust else " ", paint.dim),
                (now.rjust(cell), paint.number),
                (f" {unit}".ljust(UNIT), paint.dim),
                (figure(metric.shown(mean, frame.bits)).rjust(cell), paint.base),
                (figure(metric.shown(deviation, frame.bits)).rjust(cell), paint.base),
                ("  ", paint.base),
                (_course(frame, metric, wide), paint.model),
            ],
            width,
        )


def _listed(frame: Frame) -> tuple[tuple[Metric, ...], int]:
    """The series that whoever writes can know, and which of them is chosen."""
    chosen, knows = frame.of(NumbersState).chosen, frame.log.capabilities.knows
    listed = tuple(metric for metric in METRICS if knows(metric.name) or metric == chosen)
    return listed, listed.index(chosen)


def _course(frame: Frame, metric: Metric, wide: int) -> str:
    """The newest values up to the cursor, drawn from the least to the most of them."""
    if wide < 3 or frame.cursor is None:
        return ""
    values = list(frame.log.steps.values(metric, max(frame.cursor + 1 - wide, 0), frame.cursor + 1))
    return frame.paint.course(values)


def _perplexities(frame: Frame, width: int) -> Strip:
    """exp of the mean surprisal of what is scored: of the prompt, and of the written text."""
    paint, step = frame.paint, frame.step
    known = [value for value in frame.log.prompt_scores.get("surprisal", ()) if not math.isnan(value)]
    of_prompt = math.exp(math.fsum(known) / len(known)) if known else None
    parts: list[Part] = [("perplexity: prompt ", paint.dim), (figure(of_prompt), paint.number)]
    parts += [(f" ({len(known)} tokens)", paint.dim), (paint.between, paint.dim)]
    parts += [("written text ", paint.dim), (figure(step.perplexity if step else None), paint.number)]
    return paint.row([*parts, (f" ({0 if step is None else step.index + 1} tokens)", paint.dim)], width)


def _about(frame: Frame, width: int) -> Iterator[Strip]:
    """The meaning of the chosen number, and how far it can be believed."""
    paint, metric = frame.paint, frame.of(NumbersState).chosen
    for line in wrap([(f"{metric.name}: ", paint.accent), (paint.ours(metric.meaning), paint.base)], width):
        yield paint.row(line, width)
    trust = frame.trust_of(metric)
    if trust:
        yield from paint.hint(f"{trust.level}: {visible(trust.reason, paint.ascii, True)}", width)
