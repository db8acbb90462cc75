"""One token on its way from the model to the draw, a stage of the sampling chain at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.strip import Strip

from tui_entropy.metrics.metric import LN2
from tui_entropy.records.events import probability_of
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Candidate, Step
from tui_entropy.state.run_view import SHORT_NAMES
from tui_entropy.ui.drawing.glyphs import fitted, visible_token
from tui_entropy.ui.drawing.paint import Part, figure
from tui_entropy.ui.views.frame import SUPPOSED, Frame
from tui_entropy.ui.views.view import HEAVY, View, around
from tui_entropy.ui.views.wording import decision_text, wrap

STAGE, NUMBER, CELL = 22, 9, 13
ENDS = {"banned": "banned", "forced": "another one was forced"}
"""What becomes of a token at a stage that is a person's."""


@dataclass(frozen=True)
class WaterfallState:
    """The state that the waterfall keeps."""

    stage: int = 0
    """Which stage of `knobs.order` its keys move."""


class Waterfall(View):
    """The written token, or a candidate that a person chose."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "sampling"
    OF_STEP: ClassVar[bool] = True

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, step = frame.paint, frame.seen
        if (why := self.missing(frame)) or step is None:
            heading = self.heading(frame, "waterfall", [], width)
            hint = why or "What each stage of the sampling chain does to a token, once one is written."
            return [heading, *paint.hint(hint, width)][:height]
        at = min(frame.token, len(step.candidates))
        token = step.candidates[at - 1] if at else None
        shown = token or step
        name = visible_token(shown.token_id, shown.token_bytes, paint.ascii)
        taken = "next" if frame.held_up else "drawn" if frame.what_if else "written"
        which = f"candidate {at} of {len(step.candidates)}" if token else taken
        if token and token.token_id == step.token_id:
            which += f", {taken}"
        chosen: list[Part] = [("token ", paint.dim), (f" {name} ", paint.selected), (f" {which}", paint.dim)]
        rows = [
            self.heading(frame, "waterfall", [chosen, *frame.where, *([SUPPOSED] if frame.what_if else [])], width)
        ]
        bar = min(max(width - STAGE - NUMBER - 3 * CELL - 4, 0), 40)
        lines = [*_table(frame, step, at, token, bar), *_end(frame, step, token), [], *_order(frame, step, width), []]
        lines += _candidates(frame, step, at, height - 1 - len(lines))
        return [*rows, *(paint.row(line, width) for line in lines)][:height]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        return frame.selecting(by)


def _table(frame: Frame, step: Step, at: int, token: Candidate | None, bar: int) -> Iterator[list[Part]]:
    """A row for the model, and for each stage that was on, in the order that they acted in."""
    paint = frame.paint
    titles = f"{'':{STAGE}}{'probability':<{NUMBER + bar + 2}}"
    yield [(titles + f"{'survivors':>{CELL}}{'mass kept':>{CELL}}{f'entropy {frame.unit}':>{CELL}}", paint.dim)]
    probability = probability_of(token.logprob if token else -step.surprisal)
    left = frame.log.card.vocab if frame.log.card else None
    knobs = step.decision.knobs if step.decision else frame.log.knobs_at(step.index)
    rank = f"model, rank {at or step.rank}"
    yield _row(frame, rank, _bar(frame, probability, bar), left, None, step.entropy)
    gone = False
    for n, stage in enumerate(step.stages):
        if gone:
            shown: list[Part] = [(" " * (NUMBER + bar + 2), paint.base)]
        elif token and token.cut == stage.name:
            gone, shown = True, [("removed here".ljust(NUMBER + bar + 2), paint.warning)]
        else:
            shown = _bar(frame, step.stage_probs.view[n, at], bar)
        trust = frame.trust(f"stage {stage.name}")
        mark = paint.trusted[trust.level][0] if trust else ""
        setting = f"{n + 1}{mark} {paint.ours(named(stage.name))} {_setting(knobs, stage.name)}"
        yield _row(frame, setting, shown, stage.survivors, stage.mass, stage.entropy)


def _row(
    frame: Frame, name: str, shown: list[Part], survivors: int | None, mass: float | None, entropy: float
) -> list[Part]:
    paint = frame.paint
    mass_text = "" if mass is None else f"{100 * mass:.2f} %"
    return [
        (f"{name[: STAGE - 1]:<{STAGE}}", paint.base),
        *shown,
        (f"{'?' if survivors is None else survivors:>{CELL}}{mass_text:>{CELL}}", paint.number),
        (f"{figure(entropy / LN2 if frame.bits else entropy):>{CELL}}", paint.number),
    ]


def _bar(frame: Frame, probability: float, bar: int) -> list[Part]:
    paint = frame.paint
    return [
        (f"{figure(100 * probability):>{NUMBER - 2}} % ", paint.number),
        (f" {paint.bar(probability, bar)} ", paint.model),
    ]


def _end(frame: Frame, step: Step, token: Candidate | None) -> Iterator[list[Part]]:
    """The draw: from what, with which luck."""
    paint = frame.paint
    final = token.final_prob if token else step.final_prob
    written = visible_token(step.token_id, step.token_bytes, paint.ascii)
    luck = "forced: " if step.forced else f"seed {frame.log.knobs_at(step.index).seed} at "
    word = "wrote" if frame.seen is frame.step and not frame.held_up else "would write"
    yield [
        (f"{'draw':<{STAGE}}", paint.title),
        (f"{figure(100 * final):>{NUMBER - 2}} % ", paint.number),
        (f" {luck}position {step.position} {word} ", paint.dim),
        (f" {written} ", paint.accent),
    ]
    if step.mirostat_mu is not None:
        yield [(f"{'mirostat':<{STAGE}}", paint.title), (f"bound {figure(step.mirostat_mu)} bits", paint.number)]


def _order(frame: Frame, step: Step, width: int) -> Iterator[list[Part]]:
    """The order that is asked for, with the stage that the keys move; those that were off are dim."""
    paint, knobs = frame.paint, frame.knobs
    if step.decision:
        yield from wrap(decision_text(frame, step.decision), width)
        yield []
    yield [("order from the next token on: ", paint.title), (knobs.order_name, paint.accent)]
    on, here = {stage.name for stage in step.stages}, frame.of(WaterfallState).stage
    parts: list[Part] = []
    for n, stage in enumerate(knobs.order):
        style = paint.selected if n == here else paint.base if stage in on else paint.dim
        parts += [(f"{n + 1}\u00a0{paint.ours(named(stage)).replace(' ', '-')}", style), ("  ", paint.base)]
    yield from ([(text.replace("\u00a0", " "), style) for text, style in line] for line in wrap(parts, width))
    yield [("dim: off at this step; , and . choose a stage, < and > move it earlier or later", paint.dim)]


def _candidates(frame: Frame, step: Step, at: int, room: int) -> Iterator[list[Part]]:
    """As many tokens as there is room for, around the chosen one: where each ended."""
    paint = frame.paint
    if room < 3:
        return
    yield [(f"{'what became of':<{STAGE}}{'model':>{NUMBER}}", paint.dim)]
    written = Candidate(step.token_id, step.token_bytes, -step.surprisal, step.final_prob)
    tokens = list(enumerate((written, *step.candidates)))
    for n, token in tokens[around(at, len(tokens), room - 1)]:
        name = fitted(visible_token(token.token_id, token.token_bytes, paint.ascii), STAGE - 5, paint.ascii)
        end = (
            ENDS.get(token.cut, f"removed by {paint.ours(named(token.cut))}")
            if token.cut
            else f"final {figure(100 * token.final_prob)} %"
        )
        yield [
            (f"{n or paint.drawn:>3} ", paint.accent if n == 0 else paint.dim),
            (f"{name} ", paint.selected if n == at else paint.base),
            (f"{figure(100 * probability_of(token.logprob)):>{NUMBER - 2}} %   ", paint.number),
            (end, paint.dim if token.cut else paint.final),
        ]


def named(stage: str) -> str:
    return SHORT_NAMES.get(stage, stage.replace("_", "-"))


def _setting(knobs: Knobs, stage: str) -> str:
    value = getattr(knobs, stage, None)  # a recording may name stages that this version lacks
    if isinstance(value, float | int):
        return f"{value:.4g}"
    return "" if stage in ("banned", "forced", "adaptive") else "?"
