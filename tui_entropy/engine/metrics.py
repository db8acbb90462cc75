"""What one row of logits says: pure functions of tensors, in float32 and nats."""

from __future__ import annotations

from torch import Tensor

SURPRISAL_LIMIT = 104.0
"""Nats. exp(-104) is 0 in float32, so a token beyond it adds nothing; the limit keeps 0 * inf out of the sums."""


def log_probs(logits: Tensor) -> Tensor:
    """(..., vocab) of any float type -> (..., vocab) float32, ln p. -inf stays -inf; a row of nothing else is NaN."""
    return logits.float().log_softmax(-1)


def entropy(logp: Tensor) -> Tensor:
    """(..., vocab) ln p -> (...,) nats. Uniform over n gives ln n, certainty 0; 0 ln 0 counts as 0."""
    return (logp.exp() * (-logp).clamp(max=SURPRISAL_LIMIT)).sum(-1)


def surprisal_moments(logp: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the surprisal -ln p under p: entropy and varentropy.

    logp: (..., vocab) float32, ln p. Returns (...,) nats and (...,) nats squared.
    """
    p = logp.exp()
    surprisals = (-logp).clamp(max=SURPRISAL_LIMIT)
    mean = (p * surprisals).sum(-1)
    return mean, (p * (surprisals - mean.unsqueeze(-1)).square()).sum(-1)


def entropy_and_varentropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(..., vocab) logits -> (...,) nats, (...,) nats squared. Uniform over n gives (ln n, 0); certainty (0, 0).

    Where ln p is wanted besides, `log_probs` once and `surprisal_moments` of it cost the same.
    """
    return surprisal_moments(log_probs(logits))


def surprisal(logp: Tensor, token_ids: Tensor) -> Tensor:
    """-ln p of a token of each row. logp: (..., vocab), token_ids: (...,) int64. Returns (...,) nats."""
    return -logp.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)


def rank(scores: Tensor, token_ids: Tensor) -> Tensor:
    """1 + the number of strictly higher scores; ties share the better rank.

    scores: (..., vocab) logits or ln p, token_ids: (...,) int64. Returns (...,) int64.
    """
    return 1 + (scores > scores.gather(-1, token_ids.unsqueeze(-1))).sum(-1)
