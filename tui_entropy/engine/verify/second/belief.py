"""A row of logits as a belief about the next token, in float64. Everything is in nats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def log_softmax(logits: npt.ArrayLike) -> Floats:
    """(vocab,) -> (vocab,) ln p; -inf stays -inf."""
    row = np.asarray(logits, dtype=np.float64)
    with np.errstate(divide="ignore"):
        logp: Floats = row - row.max() - np.log(np.exp(row - row.max()).sum())
    return logp


@dataclass(frozen=True)
class Belief:
    """The arrays that a check of a metric looks at (metrics/inputs.py)."""

    logits: Floats
    """(vocab,)."""
    token: int
    """The one that came next."""
    close: float
    """How far logits may be apart that float32, or another pass, cannot tell apart."""

    @cached_property
    def size(self) -> float:
        return float(np.abs(self.logits).max())

    @cached_property
    def surprisals(self) -> Floats:
        return -log_softmax(self.logits)

    @property
    def p(self) -> Floats:
        return self._possible[0]

    @property
    def nats(self) -> Floats:
        return self._possible[1]

    @cached_property
    def _possible(self) -> tuple[Floats, Floats]:
        return surprisals(-self.surprisals)


def surprisals(logp: Floats) -> tuple[Floats, Floats]:
    """(vocab,) ln p -> p and -ln p of the tokens that are possible at all."""
    logp = logp[logp > -np.inf]
    return np.exp(logp), -logp


def entropy(logp: Floats) -> float:
    p, nats = surprisals(logp)
    return float(p @ nats)


def varentropy(logp: Floats) -> float:
    """The second moment less the square of the first, where the metric takes the mean square distance."""
    p, nats = surprisals(logp)
    return float(p @ nats**2 - (p @ nats) ** 2)


def ranks(logits: Floats, token: int, close: float) -> tuple[int, int]:
    """The best and the worst rank of a token where scores nearer to its own than `close` may fall to either side."""
    return 1 + int((logits > logits[token] + close).sum()), max(int((logits > logits[token] - close).sum()), 1)


def kl(logp: Floats, logq: Floats) -> float:
    """KL(p || q): the cross entropy less the entropy."""
    held = np.exp(logp) > 0
    return float(-(np.exp(logp[held]) @ logq[held]) - entropy(logp))


def js(logp: Floats, logq: Floats) -> float:
    """Jensen-Shannon divergence: the entropy of the average less the average of the entropies."""
    with np.errstate(divide="ignore"):
        average = np.log((np.exp(logp) + np.exp(logq)) / 2)
    return entropy(average) - (entropy(logp) + entropy(logq)) / 2
