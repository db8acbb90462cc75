"""What scores of sentences are worked out from, token by token: columns of the scorer."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tui_entropy.metrics.inputs import StepTensors
from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import BY_NAME

Floats = npt.NDArray[np.float64]


def uniform_divergence(at: StepTensors) -> Tensor:
    """KL(uniform || p) = -mean ln p - ln n, over the n tokens that are possible."""
    logp: Tensor = at.logp
    possible = logp.isfinite()
    n = possible.sum(-1)
    return -logp.where(possible, 0.0).sum(-1, dtype=torch.float64) / n - n.double().log()


def renyi_divergence(at: StepTensors) -> Tensor:
    """Of order 1/2 of q from uniform, where q is p at temperature 2: ln n - 2 ln sum sqrt(q). Source: Darrin et al.
    2023, 'RainProof'."""
    fourth_root: Tensor = (at.logp / 4).exp()
    overlap = fourth_root.sum(-1, dtype=torch.float64).log()
    mass = fourth_root.square().sum(-1, dtype=torch.float64).log()
    return (math.log(fourth_root.shape[-1]) + mass - 2 * overlap).clamp(min=0)


COLUMNS = (
    BY_NAME["surprisal"],
    BY_NAME["entropy"],
    Metric(
        "uniform divergence", "information", "model", 1.0, "KL of the uniform distribution from the model's.",
        compute=uniform_divergence,
    ),
    Metric(
        "renyi divergence", "information", "model", 1.0,
        "Rényi divergence, of order 1/2, of the model's distribution at temperature 2 from the uniform one.",
        compute=renyi_divergence,
    ),
)  # fmt: skip


class TokenNumbers(NamedTuple):
    """Of the scored tokens of a sentence, in nats."""

    surprisal: Floats
    entropy: Floats
    uniform_divergence: Floats
    renyi_divergence: Floats

    @classmethod
    def of(cls, table: Tensor) -> Self:
        """table: (n, len(COLUMNS)) of the scorer."""
        return cls(*table.double().numpy().T)
