"""Lens: a map for each layer that takes its vectors to what the last block puts out.

One code path for three: of the logit lens the map is the identity, of a tuned lens I + A and a bias, of a Jacobian
lens J. Sources: nostalgebraist 2020; Belrose et al. 2023; Anthropic 2026, 'A global workspace in language models'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class AffineMap(NamedTuple):
    """h -> weight h + bias."""

    weight: Tensor
    """(d_model, d_model) float32."""
    bias: Tensor | None = None
    """(d_model,)"""


@dataclass(frozen=True)
class Lens:
    """Layers that it has no map for are read as they are, as is the last one, which is what all maps lead to."""

    name: str = "logit lens"
    maps: Mapping[int, AffineMap] = field(default_factory=dict)
    """Layer (0 the embedding, k the output of block k) -> its map."""
    note: str = ""
    """What a person should know before believing it, in a sentence. May be empty."""

    def __call__(self, layer: int, vectors: Tensor) -> Tensor:
        """(n, d_model) of a layer -> (n, d_model), in their dtype."""
        if layer not in self.maps:
            return vectors
        weight, bias = self.maps[layer]
        moved = torch.nn.functional.linear(
            vectors.float(), weight.to(vectors.device), None if bias is None else bias.to(vectors.device)
        )
        return moved.to(vectors.dtype)


LOGIT_LENS = Lens()
