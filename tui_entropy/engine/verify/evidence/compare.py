"""The comparison of two ways to a number: what both read, and the bound of their difference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from tui_entropy.engine.models import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import EAGER, ONE_PASS, Check

PROMPT = (
    "The keeper of the lighthouse climbed 217 steps every evening. In 1903 a letter came: «Look north», it said, "
    "and nothing else."
)
N_PROMPT = 24
"""Tokens of it that are read."""
N_SINGLE = 6
"""How many tokens are written, or read one at a time, where a few will do."""
UNITS = {"information": ("nats", 1), "information²": ("nats²", 2), "count": ("places", 0)}
"""By the kind of a metric that brings its check: the unit of a row, and the power of ln 2 that parts nats from bits.
Others are called as their kind is."""
PLAIN_PASS, EAGER_PASS = (ONE_PASS,), (ONE_PASS, EAGER)
"""What a check rests on that is held against a pass over the text, by the model's own attention or an eager one."""
ROUNDINGS = {torch.float32: 128, torch.bfloat16: 8, torch.float16: 8}
"""Roundings of its dtype that a number may be off by. In float32 sums of thousands of terms are rounded at every
term; half types are summed in float32 and rounded once per operator."""


def allowed(dtype: torch.dtype, size: float | Tensor) -> float:
    """The largest difference that rounding explains between two ways to numbers as large as `size`."""
    return float(size) * ROUNDINGS[dtype] * torch.finfo(dtype).eps


def worst(actual: Tensor, expected: Tensor) -> float:
    """Largest difference; NaN where there is one in either."""
    return float((actual.cpu().double() - expected.cpu().double()).abs().max())


def forward_logits(model: PreTrainedModel, ids: Tensor, cache: Cache | None = None) -> Tensor:
    """(n,) ids -> (n, vocab) float32 logits, as the model alone gives them."""
    logits: Tensor = forward.read(model, cache, ids[None]).logits[0]
    return logits.float()


def same_again(loaded: Loaded, ids: Tensor, size: float | Tensor) -> float:
    """The bound for what should be equal: 0, unless this model does not repeat itself to the bit.

    Some kernels of accelerators add in any order; then it is what rounding explains.
    """
    repeats = torch.equal(forward_logits(loaded.model, ids), forward_logits(loaded.model, ids))
    return 0.0 if repeats else allowed(loaded.model.dtype, size)


def entropy64(logits: Tensor) -> Tensor:
    """(..., vocab) -> (...,) nats in float64, and by another formula than the metric's."""
    entropies: Tensor = torch.special.entr(logits.cpu().double().softmax(-1)).sum(-1)
    return entropies


def gap(actual: npt.ArrayLike | None, expected: npt.ArrayLike | None) -> float:
    """Largest difference between two numbers or arrays of numbers. What only one of them knows is infinitely off."""
    one, other = (np.asarray(math.nan if value is None else value, dtype=np.float64) for value in (actual, expected))
    if one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
        return math.inf
    differing = one != other  # infinities that are the same are no difference
    return float(np.abs(one - other)[differing & ~np.isnan(one)].max(initial=0.0))


def outside(actual: float, least: float, most: float) -> float:
    """The distance of a number from where it may lie; NaN for one that is none."""
    return max(least - actual, actual - most, 0.0) if not math.isnan(actual) else math.nan


class Tally:
    """Differences found one after the other, row by row of the report: of each row the one nearest to its bound, or
    furthest beyond it, is told."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[partial[Check], list[tuple[float, float]]]] = {}
        self.skipped: dict[str, str] = {}
        """Name of a row -> why nothing could be compared."""
        self.rests_on: dict[str, tuple[str, ...]] = {}
        """Name of a row -> the ways of transformers that it is held against."""

    def row(self, name: str, group: str, compared: str, unit: str, proves: Iterable[str]) -> None:
        """Declare a row that is to be made, whether or not anything is found for it."""
        check = partial(Check, name=name, group=group, compared=compared, unit=unit, proves=tuple(proves))
        self._rows.setdefault(name, (check, []))

    def add(self, name: str, difference: float, bound: float) -> None:
        self._rows[name][1].append((difference, bound))

    def share(self, name: str, actual: Any, expected: Any, bound: float) -> None:
        """Add a difference as a share of the bound, for rows with numbers in many units."""
        difference = gap(actual, expected)
        self.add(name, difference / bound if bound else math.inf if difference else 0.0, 1.0)

    def checks(self) -> Iterator[Check]:
        for name, (check, pairs) in self._rows.items():
            check = partial(check, rests_on=self.rests_on.get(name, ()))
            if not pairs:
                yield check(skipped=self.skipped.get(name, "nothing of the kind came up"))
                continue
            difference, bound = max(pairs, key=lambda pair: _beyond(*pair))
            yield check(worst=difference, bound=bound)


def _beyond(difference: float, bound: float) -> float:
    if math.isnan(difference):
        return math.inf
    return difference / bound if bound else math.inf if difference else 0.0
