"""Uncertainty scores of sentences: pure functions of numbers of their tokens, in nats, where higher is less certain.

Names and constants are those of lm-polygraph 0.7 but where a docstring says otherwise, and so are signs, but that 0.7
itself tells RenyiNeg and FisherRao without theirs. Sources: Fadeeva et al. 2023 (lm-polygraph), Darrin et al. 2023
(Rényi, Fisher-Rao), Kang et al. 2025 (self-certainty), Takayama and Arase 2019 (pointwise mutual information),
Sriramanan et al. 2024 (attention score), Vazhentsev et al. 2025 (RAUQ), Malinin and Gales 2021 (sequence entropies),
Kuhn et al. 2023 (semantic entropy).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from tui_entropy.engine.uncertainty.columns import Floats, TokenNumbers

ALPHA = 0.2
"""The share that a token's own probability has in RAUQ."""
LEAST_SHARE = 1e-12
"""Added to shares of attention before their logarithm."""


def of_tokens(at: TokenNumbers) -> dict[str, float | None]:
    """Those that follow from the tokens alone. There is one token at least; where there is no other, what leaves the
    last one out is unknown."""
    but_last = at.surprisal[:-1]
    return {
        "MaximumSequenceProbability": float(at.surprisal.sum()),
        "Perplexity": float(at.surprisal.mean()),
        "MeanTokenEntropy": float(at.entropy.mean()),
        "MaximumTokenProbability.mean": float(but_last.mean()) if len(but_last) else None,
        "MaximumTokenProbability.max": float(but_last.max()) if len(but_last) else None,
        "SelfCertainty": -float(at.uniform_divergence.mean()),
        "RenyiNeg": -float(at.renyi_divergence.mean()),
        "FisherRao": -float(fisher_rao(at.renyi_divergence).mean()),
    }


def fisher_rao(renyi: Floats) -> Floats:
    """The distance from uniform, 0 ... 1, of what has this Rényi divergence of order 1/2 from it: both follow from
    the overlap sum sqrt(q / n), the one as -2 ln of it and the other as 2 / pi arccos."""
    return 2 / math.pi * np.arccos(np.minimum(np.exp(-renyi / 2), 1.0))


def mean_pointwise_mutual_information(surprisal: Floats, alone: Floats) -> float:
    """The mean of ln p of a token without the prompt less that with it. surprisal: (n,) behind the prompt; alone:
    (n - 1,) without it, of all but the first, which has nothing before it and counts by its ln p behind the prompt.

    lm-polygraph 0.7 takes ln p without the prompt one position off.
    """
    return float((surprisal - np.concatenate([[0.0], alone])).mean())


def attention_score(diagonal: Floats) -> float:
    """diagonal: (n_heads, n_tokens) what each token gives itself, prompt included."""
    return -float(np.log(diagonal + LEAST_SHARE).sum(-1).mean())


def rauq(surprisal: Floats, diagonals: Sequence[Floats], alpha: float = ALPHA) -> float:
    """1 - the mean of ln c, of the block where that is highest. The confidence c of a token is alpha p + (1 - alpha)
    a times the confidence of the one before it, and a is what the position that reads that one, and says this one,
    gives itself, in the head where that is most.

    surprisal: (n,). diagonals: of each block (n_heads, n - 1), at the positions that say the second token and on.
    """
    p = np.exp(-surprisal)
    found = []
    for block in diagonals:
        head = block[block.mean(-1).argmax()] if block.shape[-1] else block[0]
        confidence = [p[0]]
        for own, share in zip(p[1:], head, strict=True):
            confidence.append(alpha * own + (1 - alpha) * share * confidence[-1])
        found.append(1 - float(np.log(np.maximum(confidence, np.finfo(float).tiny)).mean()))
    return max(found)


def rauq_blocks(n_layers: int) -> tuple[int, ...]:
    """The blocks in the middle, 1-based."""
    first, last = n_layers // 3, min(math.ceil(n_layers / 3 * 2) + 1, n_layers)
    return tuple(range(first + 1, last + 1))


def attention_block(n_layers: int) -> int:
    """The block that the attention score looks at, 1-based."""
    return n_layers // 2 + 1


def of_samples(
    logprobs: Sequence[float], n_tokens: Sequence[int], said: Sequence[Hashable]
) -> dict[str, float | None]:
    """Of texts that were drawn: ln p and length of each, and what it says; what is equal counts as one meaning.

    SemanticEntropy adds up the probabilities of all draws that say the same, one that was drawn twice counted
    twice, so that it may lie below 0.
    """
    logp = np.asarray(logprobs, dtype=np.float64)
    mass = {one: np.logaddexp.reduce(logp[[each == one for each in said]]) for one in set(said)}
    share = {one: math.log(sum(each == one for each in said) / len(said)) for one in mass}
    return {
        "MonteCarloSequenceEntropy": -float(logp.mean()),
        "MonteCarloNormalizedSequenceEntropy": -float((logp / np.asarray(n_tokens)).mean()),
        "SemanticEntropy": -float(np.mean([mass[one] for one in said])),
        "SemanticEntropyEmpirical": max(-float(np.mean([share[one] for one in said])), 0.0),
    }
