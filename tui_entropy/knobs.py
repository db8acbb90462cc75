"""What a knob may be, and at which value it does nothing. Asked before a model is loaded, and by it."""

from __future__ import annotations

import math

from tui_entropy.errors import UserError
from tui_entropy.records import ORDERS, Knobs

OFF: dict[str, float] = {
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "top_n_sigma": 0.0,
}
"""The value at which a stage changes nothing, and is left out."""

RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_n_sigma": (0, 1000),
    "repetition_penalty": (0, 100),
    "frequency_penalty": (-100, 100),
    "presence_penalty": (-100, 100),
    "n_candidates": (1, 1000),
}
"""Inclusive."""

POSITIVE = ("top_p", "typical_p", "repetition_penalty")
"""Knobs that may not be 0 either."""


def check(knobs: Knobs) -> None:
    """Raise UserError for a value out of its range, or an order that is not one of all stages."""
    for name, (low, high) in RANGES.items():
        value = getattr(knobs, name)
        if not (low <= value <= high) or (value == 0 and name in POSITIVE):
            above = "above 0 and at most" if name in POSITIVE else f"between {low:g} and"
            off = f"; {OFF[name]:g} switches it off" if name in OFF else ""
            raise UserError(f"{name} is {value} but must be {above} {high:g}{off}")
    if sorted(knobs.order) != sorted(OFF):
        wrong = [stage for stage in knobs.order if stage not in OFF or knobs.order.count(stage) > 1]
        missing = [stage for stage in OFF if stage not in knobs.order]
        found = f"has {wrong[0]!r}, unknown or twice" if wrong else f"lacks {missing[0]!r}"
        raise UserError(
            f"the order of sampling stages {found}: name each of {', '.join(OFF)} once, "
            f"or take a preset ({', '.join(ORDERS)})"
        )
