"""What is read for the checks, and what two ways to a number may differ by."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from tui_entropy.engine import forward
from tui_entropy.engine.loading import Loaded

PROMPT = (
    "The keeper of the lighthouse climbed 217 steps every evening. In 1903 a letter came: «Look north», it said, "
    "and nothing else."
)
N_PROMPT = 24
"""Tokens of it that are read."""
N_SINGLE = 6
"""How many tokens are written, or read one at a time, where a few will do."""
ROUNDINGS = {torch.float32: 128, torch.bfloat16: 8, torch.float16: 8}
"""Roundings of its dtype that a number may be off by. In float32 sums of thousands of terms are rounded at every
term; half types are summed in float32 and rounded once per operator."""


def allowed(dtype: torch.dtype, size: float | Tensor) -> float:
    """The largest difference that rounding explains between two ways to numbers as large as `size`."""
    return float(size) * ROUNDINGS[dtype] * torch.finfo(dtype).eps


def worst(found: Tensor, wanted: Tensor) -> float:
    """Largest difference; NaN where there is one in either."""
    return float((found.cpu().double() - wanted.cpu().double()).abs().max())


def read(model: PreTrainedModel, ids: Tensor, cache: Cache | None = None) -> Tensor:
    """(n,) ids -> (n, vocab) float32 logits, as the model alone gives them."""
    logits: Tensor = forward.read(model, cache, ids[None]).logits[0]
    return logits.float()


def same_again(loaded: Loaded, ids: Tensor, size: float | Tensor) -> float:
    """The bound for what should be equal: 0, unless this model does not repeat itself to the bit.

    Some kernels of accelerators add in any order; then it is what rounding explains.
    """
    repeats = torch.equal(read(loaded.model, ids), read(loaded.model, ids))
    return 0.0 if repeats else allowed(loaded.model.dtype, size)


def entropy64(logits: Tensor) -> Tensor:
    """(..., vocab) -> (...,) nats in float64, and by another formula than the metric's."""
    entropies: Tensor = torch.special.entr(logits.cpu().double().softmax(-1)).sum(-1)
    return entropies
