"""Turning a knob: the values it steps through, and what may be typed for it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from msgspec.structs import replace

from tui_entropy.errors import UserError
from tui_entropy.knobs import RANGES
from tui_entropy.log import SHORT_NAMES
from tui_entropy.records import ORDERS, Knobs

OFF = Knobs(temperature=1.0, top_k=0, top_p=1.0)
"""Every stage without effect."""


def _steps(first: float, last: float, step: float) -> tuple[float, ...]:
    return tuple(round(first + i * step, 6) for i in range(round((last - first) / step) + 1))


LADDERS: dict[str, tuple[float, ...]] = {
    "temperature": (*_steps(0.0, 2.0, 0.1), 2.5, 3.0, 4.0, 5.0),
    "top_k": (1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200, 500, 0),
    "top_p": (*_steps(0.05, 0.95, 0.05), 0.99, 1.0),
    "min_p": (0.0, 0.005, 0.01, 0.02, 0.03, *_steps(0.05, 0.5, 0.05)),
    "typical_p": (*_steps(0.05, 0.95, 0.05), 0.99, 1.0),
    "top_n_sigma": (*_steps(0.25, 3.0, 0.25), 0.0),
    "repetition_penalty": (*_steps(0.8, 2.0, 0.05),),
    "frequency_penalty": (*_steps(-2.0, 2.0, 0.1),),
    "presence_penalty": (*_steps(-2.0, 2.0, 0.1),),
    "n_candidates": (1, 5, 10, 15, 20, 30, 40, 50, 100),
}
"""From the tightest to the loosest, or as numbers grow. A last 0 is 'off', which is looser than any number."""

LIMITS: dict[str, tuple[float, float]] = RANGES | {
    "top_k": (0, 10**7),
    "repetition_penalty": (0.01, RANGES["repetition_penalty"][1]),
    "seed": (0, 2**63 - 1),
    "n_candidates": (1, 200),
}
"""What may be typed: what the chain takes, with an end where that has none."""

WHOLE = ("top_k", "seed", "n_candidates")

NAMES = tuple(SHORT_NAMES)
"""The knobs in the order in which the strip walks through them."""


def turned(knobs: Knobs, name: str, by: int) -> Knobs:
    """`by` rungs up (or down) from where it is; a value between two rungs goes to the next one. Stops at the ends."""
    if name == "order":
        names = list(ORDERS)
        here = names.index(knobs.order_name) if knobs.order_name in names else -1
        return replace(knobs, order=ORDERS[names[(here + by) % len(names)]])
    value = getattr(knobs, name)
    if name == "seed":
        return replace(knobs, seed=max(value + by, 0))
    *rungs, last = LADDERS[name]
    if not last:  # 'off' stands above every number
        last, value = math.inf, value or math.inf
    rungs.append(last)
    at = bisect_right(rungs, value + 1e-9) - 1 + by if by > 0 else bisect_left(rungs, value - 1e-9) + by
    rung = LADDERS[name][min(max(at, 0), len(rungs) - 1)]
    return replace(knobs, **{name: int(rung) if name in WHOLE else rung})


def typed(knobs: Knobs, name: str, text: str) -> Knobs:
    """The knob at a value that a person typed. Raises UserError."""
    if name == "order":
        raise UserError(f"the order of the stages is one of {', '.join(ORDERS)}: choose it with the arrows")
    low, high = LIMITS[name]
    try:
        value = int(text) if name in WHOLE else float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high or (name in ("top_p", "typical_p") and not value):
        kind = "a whole number" if name in WHOLE else "a number"
        above = "above " if name in ("top_p", "typical_p") else ""
        raise UserError(f"{SHORT_NAMES[name]} {text} is not {kind} from {above}{low:g} to {high:g}")
    return replace(knobs, **{name: value})


def reset(knobs: Knobs, name: str) -> Knobs:
    """Without effect, where the knob can be; otherwise as it comes."""
    return replace(knobs, **{name: getattr(OFF, name)})
