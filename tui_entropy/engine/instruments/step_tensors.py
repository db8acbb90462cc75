"""The tensors that metrics are computed from, with what several of them need made once."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from tui_entropy.engine.instruments.tensor_metrics import log_probs, margins, rank, surprisal, surprisal_moments
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


def computed(metric: Metric, tensors: StepTensors) -> Tensor:
    """(...,) of whatever type it is made in; NaN is unknown."""
    assert metric.compute is not None
    value: Tensor = metric.compute(tensors)
    return value
