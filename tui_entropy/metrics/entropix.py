"""The quadrants of Entropix: entropy against varentropy, with the thresholds of its samplers.

Thresholds are written in bits, as in the source (github xjdr-alt/entropix, sampler.py: S1 is commit 9702669, S3
commit 9d41be6), and kept in nats like everything else. No evaluation shows that the sampler improves text: it is
a heuristic to look at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LN2 = math.log(2)
QUADRANTS = ("flowing", "asking", "exploring", "resampling", "adaptive")
"""Low and low, high entropy alone, high varentropy alone, both high; the last is everything between."""
WARM_UP = 32
"""Steps that 'own' watches before it decides."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Entropy in nats, varentropy in nats squared."""

    entropy_low: float
    """Flowing is below it."""
    entropy_high: float
    """Exploring is below it."""
    entropy_asking: float
    """Asking is above it."""
    entropy_resampling: float
    """Resampling is above it."""
    varentropy_low: float
    varentropy_high: float
    attention: tuple[float, float] | None = None
    """Low and high attention entropy of the last layer, where the variant looks at it."""
    spread: tuple[float, float] | None = None
    """Low and high variance across its heads, nats squared."""


def in_bits(
    entropy: tuple[float, float, float, float],
    varentropy: tuple[float, float],
    attention: tuple[float, float] | None = None,
    spread: tuple[float, float] | None = None,
) -> Thresholds:
    low, high, asking, resampling = (threshold * LN2 for threshold in entropy)
    return Thresholds(
        low,
        high,
        asking,
        resampling,
        varentropy[0] * LN2**2,
        varentropy[1] * LN2**2,
        attention and (attention[0] * LN2, attention[1] * LN2),
        spread and (spread[0] * LN2**2, spread[1] * LN2**2),
    )


THRESHOLDS = {
    "S1": in_bits((0.1, 5.0, 3.0, 5.0), (0.1, 5.0)),
    "S3": in_bits((0.8, 2.5, 2.5, 1.7), (0.4, 1.2), (1.0, 2.0), (0.3, 0.8)),
}
"""Those of S3 on attention were set on rows over a whole preallocated cache; over visible keys they mean less."""

LOW, HIGH = 0.25, 0.75
"""Quantiles of recent steps that 'own' takes for its thresholds."""


def own_thresholds(entropies: Sequence[float], varentropies: Sequence[float]) -> Thresholds | None:
    """Quantiles of recent steps, None before WARM_UP of them. Entropies in nats, varentropies in nats squared."""
    if len(entropies) < WARM_UP:
        return None
    low, high = quantile(entropies, LOW), quantile(entropies, HIGH)
    return Thresholds(low, high, high, high, quantile(varentropies, LOW), quantile(varentropies, HIGH))


def quantile(values: Sequence[float], share: float) -> float:
    """With linear interpolation between the two nearest values, as numpy's default."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def quadrant(
    at: Thresholds, entropy: float, varentropy: float, attention: float | None = None, spread: float | None = None
) -> str:
    """One of QUADRANTS. attention, spread: of the last layer; unknown ones hold no decision back."""

    def looks(low_or_high: int, spread_low_or_high: int) -> bool:
        return _is(at.attention, attention, low_or_high) and _is(at.spread, spread, spread_low_or_high)

    low, high = varentropy < at.varentropy_low, varentropy > at.varentropy_high
    if entropy < at.entropy_low and low and looks(0, 0):
        return "flowing"
    if entropy > at.entropy_asking and low and looks(0, 0):
        return "asking"
    if entropy < at.entropy_high and high and looks(0, 1):
        return "exploring"
    if entropy > at.entropy_resampling and high and looks(1, 1):
        return "resampling"
    return "adaptive"


def _is(bounds: tuple[float, float] | None, value: float | None, high: int) -> bool:
    """Whether a value is below the low bound or above the high one."""
    if bounds is None or value is None:
        return True
    return value > bounds[1] if high else value < bounds[0]
