"""The common beginning of two sequences."""

from __future__ import annotations

from collections.abc import Sequence

STRETCH = 256
"""Items that are compared at once, where both go on alike."""


def n_common(one: Sequence[object], other: Sequence[object]) -> int:
    """The number of items that both begin with."""
    both, known = min(len(one), len(other)), 0
    while known < both and one[known : known + STRETCH] == other[known : known + STRETCH]:
        known += STRETCH
    pairs = zip(one[known:both], other[known:both], strict=True)
    return next((at for at, (a, b) in enumerate(pairs, known) if a != b), both)
