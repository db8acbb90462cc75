"""Ways to read a number off a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from tui_entropy.metrics.metric import LARGEST, Metric
from tui_entropy.records.arrays import Grid
from tui_entropy.records.step import ATTENTION, BLOCKS, Shadow, Step, log_visible


def file_value(metric: Metric, value: float | None) -> float | int | None:
    """The value that `read` gave, as files have it: a count is whole, and None is unknown."""
    if value is None or math.isnan(value):
        return None
    if metric.kind != "count":
        return value
    return int(value) if abs(value) < LARGEST else None


def over_layers(name: str) -> Callable[[Step], float | None]:
    """Reads the mean over layers of one of ATTENTION."""
    at = ATTENTION.index(name)
    return lambda step: mean(step.attention.column(at))


def of_last_block(name: str) -> Callable[[Step], float | None]:
    at = BLOCKS.index(name)
    return lambda step: step.blocks.row(-1)[at] if step.blocks.shape[0] else None


def mean(values: Iterable[float]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = list(values)
    total = sum(known)
    if math.isnan(total):
        known = [value for value in known if not math.isnan(value)]
        total = sum(known)
    return total / len(known) if known else None


def head_entropy(step: Step) -> float | None:
    """Mean over all layers and heads of entropy / ln n."""
    rows = zip(step.head_entropy.rows(), step.visible_keys, strict=True)
    return mean(sum(row) / len(row) / ceiling for row, keys in rows if (ceiling := log_visible(keys)) is not None)


def last_heads(grid: Grid) -> list[float]:
    """The row of the last layer that has attention; empty where none has."""
    firsts = grid.column(0) if grid.shape[1] else []
    last = next((n for n in reversed(range(len(firsts))) if not math.isnan(firsts[n])), None)
    return [] if last is None else grid.row(last)


def entropix_spread(step: Step) -> float | None:
    heads = last_heads(step.head_entropy)
    centre = mean(heads)
    return None if centre is None else mean([(entropy - centre) ** 2 for entropy in heads])


def entropix_disagreement(step: Step) -> float | None:
    """Mean over heads and visible keys of |weight - mean weight|: twice the total variation, shared by the keys."""
    firsts, parted = step.attention.column(0), step.attention.column(ATTENTION.index("disagreement"))
    for first, apart, keys in zip(reversed(firsts), reversed(parted), reversed(step.visible_keys), strict=True):
        if keys and not math.isnan(first):
            return 2 * apart / keys
    return None


def entropix_interaction(step: Step) -> float | None:
    layer = last_heads(step.attention)
    return layer[ATTENTION.index("interaction")] if layer else None


def of_shadow(read: Callable[[Step, Shadow], float]) -> Callable[[Step], float | None]:
    """None where no shadow runs."""
    return lambda step: None if step.shadow is None else read(step, step.shadow)
