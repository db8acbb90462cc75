"""The spread of an ensemble: its uncertainty, split into what every member has and what they disagree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tui_entropy.engine.instruments.tensor_metrics import entropy


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
        return cls(p.mean(0), p.var(0, correction=0), *split(logp).tolist())


def split(logp: Tensor) -> Tensor:
    """(members, ..., vocab) ln p -> (..., 3) nats: total, aleatoric and epistemic uncertainty."""
    total, aleatoric = entropy(logp.exp().mean(0).log()), entropy(logp).mean(0)
    return torch.stack([total, aleatoric, (total - aleatoric).clamp(min=0)], -1)
