"""A step in words: the state of the model, and the decision of the adaptive sampler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields

from tui_entropy.metrics.entropix import THRESHOLDS, Thresholds
from tui_entropy.metrics.metric import LN2
from tui_entropy.records.step import Decision, PromptToken, Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.glyphs import visible, visible_token
from tui_entropy.ui.drawing.paint import Part, figure
from tui_entropy.ui.views.frame import Frame

SQUARED = ("varentropy", "spread")
"""In the name of a number that is nats squared; agreement and interaction are not information."""
PLAIN = ("agreement", "interaction")
BOUNDS = [field.name for field in fields(Thresholds) if field.default is not None]
"""Of entropy and varentropy, in the order of Thresholds."""


def state(frame: Frame, step: Step) -> Iterator[list[Part]]:
    """The state of the model with the z-scores that it follows from, and the quadrant of the adaptive sampler."""
    paint = frame.paint
    parts = [("state ", paint.dim), (step.state, paint.accent)]
    for name, z in (("H", step.entropy_z), ("A", step.attention_z)):
        if z is not None:
            parts += [(f"  z({name}) ", paint.dim), (f"{z:+.1f}", paint.number)]
    yield parts
    if step.decision:
        yield [("quadrant ", paint.dim), (step.decision.quadrant, paint.accent)]


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
    if position < len(prompt_tokens):
        token: PromptToken | Step = prompt_tokens[position]
    elif (index := position - len(prompt_tokens)) < len(log.steps):
        token = log.steps[index]
    else:
        return "?"
    return visible_token(token.token_id, token.token_bytes, ascii_only)
