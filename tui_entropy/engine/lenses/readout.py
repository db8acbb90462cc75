"""Readout: layers x positions of vectors, read as tokens, with what can be said of each distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SLICE_BYTES = 48 << 20
"""Of the logits that are made at a time, in float32: enough rows for the unembedding to be read few times over."""
LEAST = -1e30
"""A ln p of less is taken for it: nothing times infinity is no number."""
Decode = Callable[[Tensor, Tensor], Tensor]
"""(m, d_model) vectors and their (m,) depths, 0 the embedding and 1 the last block -> (m, vocab) logits."""


@dataclass(frozen=True)
class Readout:
    """The numbers of each layer and position, in nats; each property is (layers, positions)."""

    table: Tensor
    """(layers, positions, 6) float64, which holds every id exactly."""

    @property
    def top(self) -> Tensor:
        """The likeliest token."""
        return self.table[..., 0].long()

    @property
    def p(self) -> Tensor:
        """Its probability."""
        return self.table[..., 1]

    @property
    def entropy(self) -> Tensor:
        return self.table[..., 2]

    @property
    def kl(self) -> Tensor:
        """KL(what the model said there || this layer)."""
        return self.table[..., 3]

    @property
    def rank(self) -> Tensor:
        """Of the wanted token, 1 for the likeliest."""
        return self.table[..., 4].long()

    @property
    def wanted_p(self) -> Tensor:
        """Its probability."""
        return self.table[..., 5]

    def before(self, other: Readout) -> Readout:
        """These positions, and those of another of the same layers behind them."""
        return Readout(torch.cat([self.table, other.table], 1))


def commitment_layers(top: Tensor, final: Tensor) -> list[int | None]:
    """(layers, positions) and (positions,) ids -> for each position the first layer from which on all layers say what
    the model said there, as an index; None where the last one says something else."""
    agree = (top == final).flip(0).long().cumprod(0).sum(0).tolist()
    return [len(top) - int(n) if n else None for n in agree]


def read_out(
    decode: Decode,
    vectors: Tensor,
    depth: Tensor,
    final: Tensor,
    wanted: Tensor,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Readout:
    """Read (layers, positions, d_model).

    depth: (layers,); final: (positions, vocab) ln p of the model; wanted: (positions,) ids. No array of layers x
    positions x vocab is made. progress: told how many rows are read, of how many.
    """
    n_layers, n, _ = vectors.shape
    rows, depths = vectors.flatten(0, 1), depth.repeat_interleave(n)
    per_slice = max(SLICE_BYTES // (4 * final.shape[1]), 1)
    found: list[Tensor] = []
    for first in range(0, len(rows), per_slice):
        logits = decode(rows[first : first + per_slice], depths[first : first + per_slice])
        # One row at a time: what is made of it stays in the cache of a processor.
        found += [measured(row, final[at % n], wanted[at % n]) for at, row in enumerate(logits, first)]
        progress(len(found), len(rows))
    return Readout(
        torch.stack(found).view(n_layers, n, -1) if found else vectors.new_zeros((n_layers, 0, 6)).double()
    )


def measured(logits: Tensor, final: Tensor, wanted: Tensor) -> Tensor:
    """(vocab,), (vocab,) ln p and an id -> (6,) as in `Readout`."""
    logp = logits.log_softmax(-1).clamp_(min=LEAST)
    best, p, final_p = logp.max(-1), logp.exp(), final.exp()
    entropy = -torch.dot(p, logp)
    kl = (torch.dot(final_p, final.clamp(min=LEAST)) - torch.dot(final_p, logp)).clamp(min=0)
    rank = (logp > logp[wanted]).sum() + 1
    return torch.stack([part.double() for part in (best.indices, best.values.exp(), entropy, kl, rank, p[wanted])])
