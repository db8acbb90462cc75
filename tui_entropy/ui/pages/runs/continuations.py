"""Several short continuations from one place, grouped by what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

from msgspec import to_builtins
from textual.strip import Strip

from tui_entropy.metrics.metric import LN2
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.continuations import (
    CONTINUATIONS,
    Continuation,
    ContinuationOptions,
    SampledContinuations,
)
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible
from tui_entropy.ui.drawing.paint import Part, figure
from tui_entropy.ui.keys.needs import acts
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View, around
from tui_entropy.ui.views.wording import counted, wrap

SHARE, NUMBER = 12, 14


@dataclass(frozen=True)
class FanState:
    """The state that the page of continuations keeps."""

    run: int = 0
    position: int = 0
    """The token that they are asked for; run 0 where none was asked for yet."""
    options: ContinuationOptions = field(default_factory=ContinuationOptions)
    awaited: ContinuationOptions | None = None
    """What was asked for and is not answered yet."""


class Fan(View):
    """A row for each continuation, those that say the same together; the chosen row is always in view."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, fan, state = frame.paint, fan_here(frame), frame.of(FanState)
        asked, awaited, step = state.options, state.awaited, state.position - len(frame.log.run.started.prompt_tokens)
        place = f"before step {step + 1}"
        waiting = awaited and f"waiting for {_request(awaited)}, from {place}{_progress(frame)}"
        if fan is None:
            heading = self.heading(frame, "fan", [place] if state.run else [], width)
            return [heading, *paint.hint(waiting or _no_answer(frame) or NEVER, width)][:height]
        n_groups = len({row.group for row in fan.rows})
        groups = [place, f"{len(fan.rows)} draws of {fan.tokens} tokens", counted(n_groups, "group")]
        rows = [self.heading(frame, "fan", groups, width), paint.row(_entropy(frame, fan), width)]
        if waiting:
            rows.append(paint.row([(waiting, paint.warning)], width))
        elif (asked.n, asked.tokens) != (len(fan.rows), fan.tokens) and acts(frame, "fan.ask"):
            rows.append(paint.row([(f"g asks for {_request(asked)}", paint.warning)], width))
        title = f"  group {'share':>{SHARE - 6}} {'log p / token':>{NUMBER}} {frame.unit}  text"
        rows.append(paint.row([(f"{title}, {paint.diamond} where it ends", paint.dim)], width))
        lines = fan.in_order
        about = _about(frame, lines, width)
        room = max(height - len(rows) - len(about), 1)
        for n, row in list(enumerate(lines))[around(frame.row, len(lines), room)]:
            led = n == 0 or lines[n - 1].group != row.group
            rows.append(paint.row(_row(frame, fan, row, led, n == min(frame.row, len(lines) - 1), width), width))
        return [*rows, *about][:height]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        fan = frame.log.sampled
        last = len(fan.rows) - 1 if fan else 0
        return {"row": min(max(min(frame.row, last) + by, 0), max(last, 0))}


def fan_here(frame: Frame) -> SampledContinuations | None:
    """The newest continuations, if they are those of the token that was asked about."""
    state, answer = frame.of(FanState), frame.log.answers.get(CONTINUATIONS)
    here = answer is not None and (answer.run, answer.position) == (state.run, state.position)
    return frame.log.sampled if here else None


def _no_answer(frame: Frame) -> str:
    """Why there is none for the token that was asked about; empty where nobody said."""
    state, answer = frame.of(FanState), frame.log.answers.get(CONTINUATIONS)
    if answer is None or (answer.run, answer.position) != (state.run, state.position) or not answer.unavailable:
        return ""
    return visible(f"No answer: {answer.unavailable}", frame.paint.ascii, True)


def asking(frame: Frame) -> AskProbe:
    """The question of the page as it stands."""
    state = frame.of(FanState)
    return AskProbe(CONTINUATIONS, state.run, state.position, to_builtins(state.options))


def _progress(frame: Frame) -> str:
    """How much of it is there by now; empty where that is not known."""
    told = frame.log.probe_progress
    if told is None or told.name != CONTINUATIONS or told.total <= 0:
        return ""
    return f": {100 * told.done / told.total:.0f} %"


def _request(ask: ContinuationOptions) -> str:
    return f"{ask.n} draws of {ask.tokens} tokens, {ask.same} text"


def _entropy(frame: Frame, fan: SampledContinuations) -> list[Part]:
    paint = frame.paint
    value = figure(fan.entropy / LN2 if frame.bits else fan.entropy)
    about = f"{paint.between}{len(fan.rows)} draws{paint.between}{visible(fan.same, paint.ascii, True)} text"
    return [
        ("discrete semantic entropy", paint.title),
        (about, paint.dim),
        (f"  {value} ", paint.number),
        (f"{frame.unit} over the groups", paint.dim),
    ]


def _row(frame: Frame, fan: SampledContinuations, row: Continuation, led: bool, here: bool, width: int) -> list[Part]:
    paint = frame.paint
    count = sum(other.group == row.group for other in fan.rows)
    share = f"{count}/{len(fan.rows)} {100 * count / len(fan.rows):3.0f} %" if led else ""
    mean = row.logprob / max(len(row.token_ids), 1)
    end = f" {paint.diamond}" if row.ended else paint.ellipsis
    text = visible(row.text, paint.ascii, True)
    room = max(width - 2 - 3 - SHARE - NUMBER - 8, 1)
    return [
        (paint.drawn if here else " ", paint.accent),
        (f" {row.group + 1 if led else '':>2} ", paint.title),
        (f"{share:>{SHARE - 1}}", paint.number),
        (f"{figure(mean / LN2 if frame.bits else mean):>{NUMBER}}       ", paint.number),
        (fitted(text, min(cells(text), room), paint.ascii), paint.selected if here else paint.base),
        (end, paint.dim),
    ]


def _about(frame: Frame, lines: list[Continuation], width: int) -> list[Strip]:
    """The chosen one whole, and what the columns mean."""
    paint = frame.paint
    if not lines:
        return []
    row = lines[min(frame.row, len(lines) - 1)]
    p = "?" if math.isnan(row.logprob) else f"{math.exp(max(row.logprob, -700)):.2g}"
    text = visible(row.text, paint.ascii, True)
    parts: list[Part] = [("chosen: ", paint.dim), (text, paint.base), (f"  p {p}", paint.number)]
    parts.append((f" model, {len(row.token_ids)} tokens, {'ends there' if row.ended else 'goes on'}", paint.dim))
    return [paint.row([], width), *(paint.row(line, width) for line in islice(wrap(parts, width), 4))]


NEVER = "Several short continuations from the token under the cursor, grouped by what they say."
