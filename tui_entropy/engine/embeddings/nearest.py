"""The tokens whose embeddings are nearest to a vector."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Similarity = Literal["cosine", "dot", "euclidean"]
TOGETHER = 1 << 13
"""Rows of an embedding that are compared at a time."""


class Nearest(NamedTuple):
    ids: Tensor
    """(m, k) the nearest first."""
    values: Tensor
    """(m, k) float32: cosine, dot product, or distance."""


def nearest(vectors: Tensor, embedding: Tensor, k: int, similarity: Similarity) -> Nearest:
    """vectors: (m, d). embedding: (vocab, d). At most as many as there are tokens."""
    sizes = similarities(vectors, embedding, similarity)
    best = sizes.topk(min(k, len(embedding)), -1)
    values = -best.values if similarity == "euclidean" else best.values
    return Nearest(best.indices, values)


def similarities(vectors: Tensor, embedding: Tensor, similarity: Similarity) -> Tensor:
    """(m, vocab) float32, larger where nearer: of euclidean the distance with its sign turned."""
    wanted = vectors.float()
    if similarity == "cosine":
        wanted = torch.nn.functional.normalize(wanted, dim=-1)
    return torch.cat([_compared(wanted, rows.float(), similarity) for rows in torch.split(embedding, TOGETHER)], -1)


def _compared(wanted: Tensor, rows: Tensor, similarity: Similarity) -> Tensor:
    if similarity == "euclidean":
        return -torch.cdist(wanted, rows)
    if similarity == "cosine":
        rows = torch.nn.functional.normalize(rows, dim=-1)
    return wanted @ rows.T
