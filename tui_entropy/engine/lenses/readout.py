"""Readout: layers x positions of vectors, read as tokens, with what can be said of each distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tui_entropy.engine.kernels.threads import one_thread

SLICE_BYTES = 48 << 20
"""Of the logits that are made at a time, in float32: enough rows for the unembedding to be read few times over."""
BLOCK = 256
"""Logits whose greatest is found at a time."""
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
    finals = [Final.of(logp) for logp in final]
    found = [vectors.new_zeros((0, 6)).double()]
    for first in range(0, len(rows), per_slice):
        logits = decode(rows[first : first + per_slice], depths[first : first + per_slice])
        found.append(measured((row, finals[at % n], wanted[at % n]) for at, row in enumerate(logits, first)))
        progress(first + len(logits), len(rows))
    return Readout(torch.cat(found).view(n_layers, n, 6))


class Final(NamedTuple):
    """What the model said at a position, which layers are held against."""

    p: Tensor
    """(vocab,)"""
    nats: Tensor
    """0-d: the sum of p ln p."""

    @classmethod
    def of(cls, logp: Tensor) -> Final:
        """Of its (vocab,) ln p."""
        p = logp.exp()
        return cls(p, torch.dot(p, logp.clamp(min=LEAST)))


@one_thread
def measured(rows: Iterable[tuple[Tensor, Final, Tensor]]) -> Tensor:
    """Of (vocab,) logits, what the model said there, and an id, each -> (n, 6) as in `Readout`.

    One row at a time: what is made of it stays in the cache of a processor.
    """
    found = []
    for logits, final, wanted in rows:
        logp, p, top = logits.log_softmax(-1).clamp_(min=LEAST), logits.softmax(-1), _argmax(logits)
        entropy = -torch.dot(p, logp)
        kl = (final.nats - torch.dot(final.p, logp)).clamp(min=0)
        rank = (logits > logits[wanted]).sum() + 1
        found.append(torch.stack([part.double() for part in (top, p[top], entropy, kl, rank, p[wanted])]))
    return torch.stack(found)


def _argmax(row: Tensor) -> Tensor:
    """The same as torch.argmax, which takes six times as long on a CPU."""
    blocks = pad(row, (0, -len(row) % BLOCK), value=-torch.inf).view(-1, BLOCK)
    at = blocks.amax(-1).argmax()
    return at * BLOCK + blocks[at].argmax()
