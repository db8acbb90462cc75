"""A step in words: the state of the model, and the decision of the adaptive sampler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields

from tui_entropy.metrics.entropix import THRESHOLDS, Thresholds
from tui_entropy.metrics.metric import LN2, Metric
from tui_entropy.records.step import Decision, PromptToken, Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.glyphs import visible, visible_token
from tui_entropy.ui.drawing.paint import Group, Paint, Part, bounds_figure, figure
from tui_entropy.ui.views.frame import Frame

SQUARED = ("varentropy", "spread")
"""In the name of a number that is nats squared; agreement and interaction are not information."""
PLAIN = ("agreement", "interaction")
UNTOLD = {"Warming up": "too few tokens to compare with", "Unknown": "no attention is measured"}
"""States of the model that say nothing of it, and why."""
BETWEEN = "its entropy is known between bounds only"
BOUNDS = [field.name for field in fields(Thresholds) if field.default is not None]
"""Of entropy and varentropy, in the order of Thresholds."""


def counted(n: int, what: str) -> str:
    """'1 run', '2 runs'."""
    return f"{n} {what}{'s' * (n != 1)}"


def reading(frame: Frame, metric: Metric, room: int, step: Step | None = None) -> str:
    """A number of a step, the one at the cursor if none is given, for a table: its value, else the bounds that are
    known of it, else `?`."""
    step = frame.step if step is None else step
    value = None if step is None else metric.value(step, frame.bits)
    if step is None or (value is not None and math.isfinite(value)) or (bounds := metric.bounds(step)) is None:
        return figure(value)
    low, high = (metric.in_unit(end, frame.bits) for end in bounds)
    return frame.paint.ours(bounds_figure(low, high, room - 2 * frame.paint.ascii))


def state(frame: Frame, step: Step) -> Iterator[Group]:
    """The state of the model with the z-scores that it follows from, where there is little room those alone that are
    not usual; and the quadrant of the adaptive sampler."""
    paint = frame.paint
    name: list[Part] = [(step.state, paint.accent)]
    scores = [("entropy", step.entropy_z), ("attention", step.attention_z)]
    every, unusual = ([(of, z) for of, z in scores if z is not None and abs(z) > least] for least in (-1, 1))
    why = UNTOLD.get(step.state)
    if step.state == "Unknown" and step.bounds_of("entropy"):
        why = BETWEEN
    if why:
        yield [*name, (f": {why}", paint.dim)], name
    else:
        yield [*name, *_scored(paint, every)], [*name, *_scored(paint, unusual)], name
    if step.decision:
        yield [("quadrant ", paint.dim), (step.decision.quadrant, paint.accent)]


def _scored(paint: Paint, scores: list[tuple[str, float]]) -> list[Part]:
    """Standard deviations from the mean of recent steps."""
    parts: list[Part] = []
    for of, z in scores:
        parts += [(f"{', ' if parts else ': '}{of} ", paint.dim), (f"{z:+.1f}{paint.ours('σ')}", paint.number)]
    return parts


def decision_text(frame: Frame, decision: Decision) -> list[Part]:
    """The decision of the adaptive sampler, and then every number that it saw: text that may be wrapped."""
    paint = frame.paint
    parts = [
        (f"adaptive {decision.variant}: ", paint.dim),
        (decision.quadrant, paint.accent),
        (f" {paint.arrow} {visible(decision.action, paint.ascii, True)}", paint.base),
    ]
    if decision.saw:
        parts.append((f"{paint.between}saw ", paint.dim))
    for name, value in decision.saw.items():
        parts.append((f"{name.replace('_', ' ')} ", paint.dim))
        parts.append((f"{_shown(frame, name, value)}  ", paint.number))
    return parts


def thresholds(decision: Decision | None) -> tuple[str, Thresholds]:
    """Whose thresholds the quadrants are drawn with: those of the decision, or S1's for reference."""
    if decision is None or not all(math.isfinite(decision.saw.get(name, math.nan)) for name in BOUNDS):
        return "S1 for reference", THRESHOLDS["S1"]
    low, high, asking, resampling, varentropy_low, varentropy_high = (decision.saw[name] for name in BOUNDS)
    return decision.variant, Thresholds(low, high, asking, resampling, varentropy_low, varentropy_high)


def wrap(parts: list[Part], width: int) -> Iterator[list[Part]]:
    """Lines of whole words."""
    line: list[Part] = []
    room = width
    for text, style in parts:
        for n, word in enumerate(text.split(" ")):
            piece = f" {word}" if n else word
            if len(piece) > room and line:
                yield line
                line, room, piece = [], width, word
            line.append((piece, style))
            room -= len(piece)
    yield line


def _shown(frame: Frame, name: str, value: float) -> str:
    if any(word in name for word in PLAIN):
        return figure(value)
    power = 2 if any(word in name for word in SQUARED) else 1
    unit = frame.unit + ("²" if power == 2 else "")
    return f"{figure(value / LN2**power if frame.bits else value)} {frame.paint.ours(unit)}"


def token_at(log: SessionView, position: int, ascii_only: bool) -> str:
    """The token at a position of the whole context, safe to draw; ? for one that there is not."""
    prompt_tokens = log.started.prompt_tokens if log.started else ()
    if position < 0:  # as of an answer that speaks of what was before the text
        return "?"
    if position < len(prompt_tokens):
        token: PromptToken | Step = prompt_tokens[position]
    elif (index := position - len(prompt_tokens)) < len(log.steps):
        token = log.steps[index]
    else:
        return "?"
    return visible_token(token.token_id, token.token_bytes, ascii_only)
