"""The spread of an ensemble: its uncertainty, split into what every member has and what they disagree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spread:
    """Sources: Depeweg et al. 2018 and Gal 2016 for the split, H(mean p) = mean H(p) + mutual information."""

    mean: Tensor
    """(vocab,) the mean of the members' probabilities, float64."""
    variance: Tensor
    """(vocab,) their variance, over all of them (1/N)."""
    total: float
    """The entropy of the mean, in nats."""
    aleatoric: float
    """The mean of the entropies, in nats: what no member knows better."""
    epistemic: float
    """What is left, in nats and never below 0: the mutual information of token and member."""

    @classmethod
    def of(cls, logp: Tensor) -> Self:
        """logp: (members, vocab) ln p."""
        logp = logp.double()
        p = logp.exp()
        mean = p.mean(0)
        aleatoric = float(entropies(logp).mean())
        total = float(entropies(mean.log()[None])[0])
        return cls(mean, p.var(0, correction=0), total, aleatoric, max(total - aleatoric, 0.0))


def entropies(logp: Tensor) -> Tensor:
    """(members, vocab) ln p -> (members,) nats. What has no probability adds nothing."""
    return -torch.where(logp > -torch.inf, logp.exp() * logp, 0.0).sum(-1)
