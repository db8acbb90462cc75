"""The tensors that metrics are computed from, with what several of them need made once."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from tui_entropy.engine.instruments.tensor_metrics import (
    SURPRISAL_LIMIT,
    log_probs,
    margins,
    rank,
    surprisal,
    surprisal_moments,
    two_largest,
)
from tui_entropy.metrics.metric import Metric


class StepTensors:
    """Rows of logits, and what follows from them: of one step, or of several positions of a prompt."""

    def __init__(
        self, logits: Tensor, logp: Tensor | None = None, best: Tensor | None = None, token: Tensor | None = None
    ) -> None:
        """logits: (..., vocab) float32. What is not given is made of them; token: (...,) int64, what came next."""
        self.logits = logits
        self.logp = log_probs(logits) if logp is None else logp
        self._best, self._token = best, token

    @property
    def token(self) -> Tensor:
        """(...,) int64."""
        assert self._token is not None, "this is computed before a token is drawn: say `of_token`"
        return self._token

    @cached_property
    def best(self) -> Tensor:
        """(..., k) ln p of the most probable tokens, in order; two where nothing else was given."""
        return self.logp.topk(min(2, self.logp.shape[-1])).values if self._best is None else self._best

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """(...,) entropy in nats and varentropy in nats squared."""
        return surprisal_moments(self.logp)

    @property
    def entropy(self) -> Tensor:
        """(...,) nats."""
        return self.moments[0]

    @cached_property
    def margins(self) -> tuple[Tensor, Tensor]:
        """(...,) logits and (...,) probability that the most probable token is ahead of the second."""
        return margins(self.best)

    @property
    def surprisal(self) -> Tensor:
        """(...,) nats, of the token."""
        return surprisal(self.logp, self.token)

    @property
    def rank(self) -> Tensor:
        """(...,) of the token; 1 is the most probable."""
        return rank(self.logp, self.token)


class RowTensors(StepTensors):
    """The same of many rows on a CPU, where the time goes into passes over rows of a whole vocabulary: each number is
    taken from the scores less their largest and the exponentials of these, with as few passes as it needs."""

    def __init__(self, logits: Tensor, token: Tensor) -> None:
        """logits: (n, vocab) float32, which are overwritten; token: (n,)."""
        first, second = two_largest(logits)
        self._shifted = logits.sub_(first.unsqueeze(-1))
        self._second = second - first
        self._weights = self._shifted.exp()
        self._sum = self._weights.sum(-1)
        self._log_sum = self._sum.log()
        self._token = token

    @property
    def logits(self) -> Tensor:  # type: ignore[override]
        """(n, vocab), up to what is the same for all of a row."""
        return self._shifted

    @cached_property
    def logp(self) -> Tensor:  # type: ignore[override]
        return self._shifted - self._log_sum.unsqueeze(-1)

    @cached_property
    def best(self) -> Tensor:
        return self.logp.topk(min(2, self.logp.shape[-1])).values

    @cached_property
    def entropy(self) -> Tensor:
        mean = torch.linalg.vecdot(self._weights, self._shifted) / self._sum
        found = self._log_sum - mean
        if not bool(found.isfinite().all()):  # 0 times -inf, or no numbers at all
            mean = (self._weights * self._shifted.clamp(min=-SURPRISAL_LIMIT)).sum(-1) / self._sum
            found = self._log_sum - mean
        nats: Tensor = found.clamp(min=0)
        return nats

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        apart = self._shifted.clamp(min=-SURPRISAL_LIMIT).sub_((self._log_sum - self.entropy).unsqueeze(-1))
        return self.entropy, torch.linalg.vecdot(self._weights, apart.square_()) / self._sum

    @cached_property
    def margins(self) -> tuple[Tensor, Tensor]:
        if self._shifted.shape[-1] == 1:
            return margins(self.best)
        apart = -self._second
        return apart.masked_fill(apart == math.inf, math.nan), (1 - self._second.exp()) / self._sum

    @property
    def surprisal(self) -> Tensor:
        return self._log_sum - self._shifted.gather(-1, self.token.unsqueeze(-1)).squeeze(-1)

    @property
    def rank(self) -> Tensor:
        return rank(self._shifted, self.token)


def computed(metric: Metric, tensors: StepTensors) -> Tensor:
    """(...,) of whatever type it is made in; NaN is unknown."""
    assert metric.compute is not None
    value: Tensor = metric.compute(tensors)
    return value
