"""The temperature under which a model's logits fit what came next best."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

LEAST, MOST = 0.02, 50.0
"""Temperatures that are looked through."""
MAX_ROUNDS, EXACT = 60, 1e-7
"""Rounds of the search, and the relative change of one after which it ends."""

Rows = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Gives the same slices each time: (n, classes) logits, where -inf is no class, and the (n,) class that came."""


class FittedTemperature(NamedTuple):
    temperature: float
    before: float
    """Mean surprisal in nats as the model is."""
    after: float
    """The same under the temperature."""


class _At(NamedTuple):
    nll: float
    slope: float
    """By 1 / temperature."""
    curvature: float


def fit_temperature(rows: Rows) -> FittedTemperature:
    """Temperature scaling: one number that all logits are divided by, for the least mean surprisal.

    The mean surprisal is convex in b = 1 / temperature: with z the logits, its slope is the mean of E[z] - z of what
    came, its curvature that of Var[z]. Newton's steps, between bounds that each of them makes narrower. Where it has
    no minimum, as when the model is always right, the temperature is that at the end of the range. Raises
    ZeroDivisionError where there are no rows. Source: Guo et al. 2017.
    """
    low, high, b = 1 / MOST, 1 / LEAST, 1.0
    before = now = _look(rows, b)
    for _ in range(MAX_ROUNDS):
        low, high = (low, b) if now.slope > 0 else (b, high)
        step = b - now.slope / now.curvature if now.curvature > 0 else high
        after = step if low < step < high else (low * high) ** 0.5
        if abs(after - b) <= EXACT * b:
            break
        b = after
        now = _look(rows, b)
    return FittedTemperature(1 / b, before.nll, now.nll)


def _look(rows: Rows, b: float) -> _At:
    n, nll, slope, curvature = 0, 0.0, 0.0, 0.0
    for logits, came in rows():
        real = torch.isfinite(logits)
        scores = logits.double() - logits.amax(-1, keepdim=True).double()
        logp = (b * scores).log_softmax(-1)
        p, scores = logp.exp(), scores.where(real, 0.0)
        mean = (p * scores).sum(-1)
        at = came[:, None]
        nll -= float(logp.gather(-1, at).sum())
        slope += float((mean - scores.gather(-1, at)[:, 0]).sum())
        curvature += float((p * (scores - mean[:, None]).square()).sum())
        n += len(came)
    return _At(nll / n, slope / n, curvature / n)
