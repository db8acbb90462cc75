"""Turning a knob: the values it steps through."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.knobs import BY_NAME, KNOBS, is_idle
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.registry import ORDERS


def adjusted(knobs: Knobs, name: str, by: int) -> Knobs:
    """`by` rungs up (or down) from where it is; a value between two rungs goes to the next one. Stops at the ends.
    Choices go round. Raises UserError for a knob that can not be adjusted."""
    knob = BY_NAME[name]
    value = getattr(knobs, name)
    if knob.choices:
        here = knobs.order_name if name == "order" else value
        at = knob.choices.index(here) if here in knob.choices else -1
        chosen = knob.choices[(at + by) % len(knob.choices)]
        return replace(knobs, **{name: ORDERS[chosen] if name == "order" else chosen})
    if not knob.is_number:
        raise UserError(f"{knob.short} is text: set it on the command line with {knob.option}")
    if not knob.rungs:
        return replace(knobs, **{name: min(max(value + by, int(knob.low)), int(knob.high))})
    *rungs, last = knob.rungs
    if not last:  # 'off' stands above every number
        last, value = math.inf, value or math.inf
    rungs.append(last)
    at = bisect_right(rungs, value + 1e-9) - 1 + by if by > 0 else bisect_left(rungs, value - 1e-9) + by
    return replace(knobs, **{name: knob.rungs[min(max(at, 0), len(rungs) - 1)]})


def reset(knobs: Knobs, name: str) -> Knobs:
    """Without effect, where the knob can be; otherwise as it comes."""
    knob = BY_NAME[name]
    return replace(knobs, **{name: knob.default if knob.off is None else knob.off})


def beside(knobs: Knobs, name: str, by: int) -> str:
    """The knob that is `by` places from this one among those that could do something."""
    names = [knob.name for knob in KNOBS if knob.name == name or not is_idle(knobs, knob.name)]
    return names[(names.index(name) + by) % len(names)]
