"""Heads of a kind: which are known at the cursor, and the next one that says something of the text."""

from __future__ import annotations

from tui_entropy.records.probes.head_patterns import QUIET, Pattern
from tui_entropy.ui.views.frame import Frame

Kinds = dict[tuple[int, int], tuple[Pattern, float]]
"""(layer, head), both 1-based -> the kind of head that it is, and its share of the weight."""


def kinds_at(frame: Frame) -> Kinds:
    """By what is known at the cursor."""
    position = frame.step.position if frame.step else frame.log.context_used
    patterns = frame.log.head_patterns(position)
    return {} if patterns is None else patterns.kinds()


def next_of_a_kind(frame: Frame) -> tuple[int, int] | None:
    """The next head above the chosen one, and beyond the last the first; None where none is known."""
    heads = [place for place, (pattern, _) in kinds_at(frame).items() if pattern.name != QUIET]
    here = frame.layer, frame.head or 0
    return min(heads, key=lambda place: (place <= here, place), default=None)
