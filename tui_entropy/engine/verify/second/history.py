"""A step judged by those before it, with the standard library's statistics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tui_entropy.records.step import PERPLEXITY_WINDOW, RECENT

ENOUGH = 16


def z(before: Sequence[float], value: float) -> float | None:
    """Population standard deviations above the mean of the newest steps before; None while those are too few, or
    alike."""
    known = before[-RECENT:]
    if len(known) < ENOUGH:
        return None
    deviation = statistics.pstdev(known)
    return (value - statistics.fmean(known)) / deviation if deviation > 1e-6 else None


def perplexity(surprisals: Sequence[float], window: int | None = None) -> float:
    """2 to the mean number of bits."""
    counted = surprisals if window is None else surprisals[-window:]
    return float(2 ** (statistics.fmean(counted) / math.log(2)))


def window_perplexity(surprisals: Sequence[float]) -> float:
    return perplexity(surprisals, PERPLEXITY_WINDOW)


def strays(before: Sequence[Sequence[float]], norms: Sequence[float]) -> tuple[int, ...]:
    """Blocks (1-based) whose norm is further outside the quartiles of its own recent values than three times what
    lies between them. before: per step, per block."""
    known = before[-RECENT:]
    if len(known) < ENOUGH:
        return ()
    outside = []
    for block, norm in enumerate(norms):
        values = sorted(step[block] for step in known)
        lower, upper = values[len(values) // 4], values[::-1][len(values) // 4]
        reach = max(3 * (upper - lower), 1e-6 * upper)
        if not lower - reach <= norm <= upper + reach:
            outside.append(block + 1)
    return tuple(outside)


def state(entropy_z: float | None, attention_z: float | None, n_before: int, has_attention: bool) -> str:
    """As the table of states has it: how many of the two are high, how many low."""
    if not has_attention and n_before >= ENOUGH:
        return "Unknown"
    if entropy_z is None or attention_z is None:
        return "Warming up"
    sides = sorted(0 if abs(value) <= 1 else 1 if value > 0 else -1 for value in (entropy_z, attention_z))
    return {
        (0, 0): "Confident", (1, 1): "Uncertain", (-1, -1): "Overconfident", (-1, 1): "Conflicted",
        (0, 1): "Leaning uncertain", (-1, 0): "Leaning overconfident",
    }[sides[0], sides[1]]  # fmt: skip
