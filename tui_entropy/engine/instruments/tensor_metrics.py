"""Metrics of rows of logits and of attention: pure functions of tensors, in float32 and nats.

Rows with -inf, one-hot, equal, huge and of a single entry give numbers; where one gives NaN, which means unknown, the
docstring says so. Sources: Shannon 1948 (entropy), Kullback and Leibler 1951, Lin 1991 (Jensen-Shannon), Kontoyiannis
and Verdú 2014 (varentropy); the attention measures after Entropix (xjdr-alt/entropix), over visible keys only.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

SURPRISAL_LIMIT = 104.0
"""Nats. exp(-104) is 0 in float32, so a token beyond it adds nothing; the limit keeps 0 * inf out of the sums."""


def log_probs(logits: Tensor) -> Tensor:
    """(..., vocab) of any float type -> (..., vocab) float32, ln p. -inf stays -inf; a row of nothing else is NaN."""
    shifted = logits.float() - logits.amax(-1, keepdim=True).float()
    return shifted - shifted.exp().sum(-1, keepdim=True).log()  # log_softmax rounds ten times as much in long rows


def entropy(logp: Tensor) -> Tensor:
    """(..., vocab) ln p -> (...,) nats, -sum p ln p. Uniform over n gives ln n, certainty 0; 0 ln 0 counts as 0."""
    return (logp.exp() * (-logp).clamp(max=SURPRISAL_LIMIT)).sum(-1)


def surprisal_moments(logp: Tensor, p: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and variance of the surprisal -ln p under p: entropy and varentropy.

    logp: (..., n) float32, ln p; p: the same as probabilities, where they are known already. Returns (...,) nats and
    (...,) nats squared. Uniform over n gives (ln n, 0); certainty gives (0, 0).
    """
    p = logp.exp() if p is None else p
    surprisals = (-logp).clamp_(max=SURPRISAL_LIMIT)
    mean = (p * surprisals).sum(-1)
    return mean, surprisals.sub_(mean.unsqueeze(-1)).square_().mul_(p).sum(-1)


def surprisal(logp: Tensor, token_ids: Tensor) -> Tensor:
    """-ln p of a token of each row. logp: (..., vocab), token_ids: (...,) int64. Returns (...,) nats."""
    return -logp.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)


def rank(scores: Tensor, token_ids: Tensor) -> Tensor:
    """1 + the number of strictly higher scores; ties share the better rank.

    scores: (..., vocab) logits or ln p, token_ids: (...,) int64. Returns (...,) int64.
    """
    above = torch.empty_like(scores, dtype=torch.float32)  # counts faster than booleans, exactly below 2^24
    torch.gt(scores, scores.gather(-1, token_ids.unsqueeze(-1)), out=above)
    return 1 + above.sum(-1).long()


def margins(logp: Tensor) -> tuple[Tensor, Tensor]:
    """The distance from the most probable token to the second, which may tie with it.

    logp: (..., vocab) ln p. Returns (...,) logits (a difference of ln p is one of logits) and (...,) probability,
    0 ... 1. Unknown, NaN, are both with a vocabulary of one, and the first where all tokens but one are impossible:
    it would be infinite, and no record holds that.
    """
    if logp.shape[-1] == 1:
        return torch.full_like(logp[..., 0], math.nan), torch.full_like(logp[..., 0], math.nan)
    first, second = logp.topk(2).values.unbind(-1)
    apart = first - second
    return apart.masked_fill(apart == math.inf, math.nan), first.exp() - second.exp()


CHUNK = 256
"""Scores whose largest is found together: of the largest of each the two best are found at once."""


def two_largest(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, k) -> (n,) and (n,) the largest of each row and the second, which may tie with it; NaN for a second of one.

    One pass over the rows, many times faster than topk on a CPU.
    """
    n, k = rows.shape
    whole = k // CHUNK * CHUNK
    if whole < 2 * CHUNK:
        found = rows.topk(min(2, k)).values
        return found[:, 0], found[:, 1] if k > 1 else torch.full_like(found[:, 0], math.nan)
    chunks = rows[:, :whole].view(n, -1, CHUNK)
    best = chunks.amax(-1).topk(2)
    inside = chunks[torch.arange(n, device=rows.device), best.indices[:, 0]].topk(2).values
    ends = [rows[:, whole:].topk(min(2, k - whole)).values] if whole < k else []
    found = torch.cat([inside, best.values[:, 1:], *ends], 1).topk(2).values
    return found[:, 0], found[:, 1]


def kl(logp: Tensor, logq: Tensor) -> Tensor:
    """KL(p || q) = sum p (ln p - ln q), at least 0, +inf where q has no room for what p holds possible.

    logp, logq: (..., vocab) ln p and ln q. Returns (...,) nats. What p rounds to 0 adds nothing.
    """
    p = logp.exp()
    return (p * (logp - logq)).masked_fill(p == 0, 0.0).sum(-1).clamp(min=0)


def js(logp: Tensor, logq: Tensor) -> Tensor:
    """Jensen-Shannon divergence, the mean KL of p and q to their average: symmetric, 0 ... ln 2, always finite.

    logp, logq: (..., vocab) ln p and ln q. Returns (...,) nats.
    """
    middle = torch.logaddexp(logp, logq) - math.log(2)
    return ((kl(logp, middle) + kl(logq, middle)) / 2).clamp(max=math.log(2))


def perplexity(nll: float) -> float:
    """exp of a mean surprisal in nats: as if each token had been a choice among so many, all alike.

    Beyond what a float can hold, the largest float.
    """
    return math.exp(min(nll, math.log(sys.float_info.max)))


def normalised_entropy(entropy: Tensor, n: Tensor | float) -> Tensor:
    """H / ln n, 0 ... 1: comparable between rows of different length. NaN where n < 2, as it says nothing there.

    entropy: (...,) nats; n: how many outcomes there were, of a shape that broadcasts with it.
    """
    ceiling = torch.as_tensor(n, dtype=torch.float32, device=entropy.device).log()
    return torch.where(ceiling > 0, (entropy / ceiling).clamp(0, 1), math.nan)


# --- Attention rows ------------------------------------------------------------------------------------------


def attention_scores(query: Tensor, key: Tensor, bias: Tensor, scaling: float, softcap: float | None) -> Tensor:
    """Scores before the softmax: (batch, n_heads, n, d_head) and (batch, n_kv_heads, keys, d_head) -> (batch *
    n_kv_heads, n_heads / n_kv_heads * n, keys) float32. bias: what is added to them, of a shape that broadcasts."""
    queries = query.reshape(key.shape[0] * key.shape[1], -1, key.shape[-1]).float()
    keys = key.flatten(0, 1).mT.float()
    if softcap is None:
        return torch.baddbmm(bias, queries, keys, alpha=scaling)
    return softcap * torch.tanh(torch.bmm(queries, keys) * (scaling / softcap)) + bias


def row_moments(scores: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Entropy and varentropy of rows softmax(scores).

    scores: (..., keys) finite, before the softmax; weights: their softmax, where it is known already. Returns (...,)
    nats and (...,) nats squared. One key gives (0, 0), n alike (ln n, 0).
    """
    weights = scores.softmax(-1) if weights is None else weights
    # The largest weight is 1 / Z of the scores less their largest: ln p without another logarithm or exponential.
    logp = (scores - scores.amax(-1, keepdim=True)).add_(weights.amax(-1, keepdim=True).log())
    return surprisal_moments(logp, weights)


def spread(head_entropies: Tensor) -> Tensor:
    """(..., heads) nats -> (...,) nats squared: population variance of the entropies across heads."""
    return head_entropies.var(-1, correction=0)


def disagreement(weights: Tensor) -> Tensor:
    """Mean over heads of the total variation, half of sum |w - mean w|, between a head's row and the mean row.

    weights: (..., heads, keys), rows that sum to 1. Returns (...,), 0 (all heads alike) to 1 - 1 / heads.
    """
    apart = (weights - weights.mean(-2, keepdim=True)).abs_()
    return apart.sum((-2, -1)) / (2 * weights.shape[-2])


def interaction_strength(scores: Tensor, visible: Tensor | None = None) -> Tensor:
    """(..., heads, keys) scores, before the softmax -> (...,) mean absolute value of those of visible keys.

    visible: (..., keys) bool, for which keys count; None for all.
    """
    if visible is None:
        return scores.abs().mean((-2, -1))
    counted = scores.abs().where(visible.unsqueeze(-2), 0).sum((-2, -1))
    return counted / (visible.sum(-1) * scores.shape[-2])
