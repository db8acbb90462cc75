"""Heads of a kind: which are known at the cursor, and the next that says something of the text. And those scaled."""

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


def factors_at(frame: Frame) -> dict[tuple[int, int], float]:
    """(layer, head), both 1-based -> the factor that what the head adds is scaled by at the step under the cursor, by
    itself or with its layer's attention. Those that are not scaled are left out."""
    step, card = frame.step, frame.log.card
    run, factors = frame.log.run, dict[tuple[int, int], float]()
    for vector in run.vectors if step is None else run.vectors_at(step.index):
        if vector.on and vector.part and vector.part != "feed-forward" and card is not None:
            n = step.index if step else len(frame.log.steps)
            for head in range(1, card.n_heads + 1):
                if vector.part in ("attention", str(head)):
                    place = vector.blocks[0], head
                    factors[place] = factors.get(place, 1.0) * vector.strength_at(n + 1)
    return {place: factor for place, factor in factors.items() if factor != 1}


def next_of_a_kind(frame: Frame) -> tuple[int, int] | None:
    """The next head above the chosen one, and beyond the last the first; None where none is known."""
    heads = [place for place, (pattern, _) in kinds_at(frame).items() if pattern.name != QUIET]
    here = frame.layer, frame.head or 0
    return min(heads, key=lambda place: (place <= here, place), default=None)
