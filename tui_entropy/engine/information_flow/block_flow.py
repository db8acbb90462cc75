"""The flow through blocks: from where one or several tokens came, with all that flows summing to 1 behind each block.

Going down, what flows through a token is split: part of it came by attention, from the tokens looked at, and the rest
by the residual stream of its own place. The feed-forward network works on one place by itself, so what it added came
from there too; or the flow ends in it. Source: InTraVisTo (Belardinelli et al. 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockFlow:
    """How one block is gone down through, at n positions."""

    attention: Tensor
    """(n,) share of attention in the stream behind it."""
    feed_forward: Tensor
    """(n,) share of the feed-forward network in what the block puts out."""
    sources: Tensor
    """(n, 1 + n) where attention's share came from: all text before the first position, and each; rows sum to 1."""

    def transition(self, ends: bool) -> Tensor:
        """(1 + n, 1 + n) float64: the flow through each place behind the block -> before it. ends: what feed-forward
        networks add ends there, so that rows sum to less than 1."""
        n = len(self.attention)
        matrix = torch.zeros(1 + n, 1 + n, dtype=torch.float64)
        matrix[0, 0] = 1.0
        attention = self.attention.double().cpu()
        sources = self.sources.double().cpu()
        matrix[1:] = attention[:, None] * sources / sources.sum(-1, keepdim=True)  # once more, in float64
        matrix[1:, 1:] += torch.diag(1 - attention)
        if ends:
            matrix[1:] *= 1 - self.feed_forward.double().cpu()[:, None]
        return matrix


@dataclass(frozen=True)
class TokenFlow:
    """What flows through each place, between the layers that are shown."""

    layers: tuple[int, ...]
    """The last first."""
    shares: tuple[Tensor, ...]
    """Of each layer (1 + n,) float64: what flows through the text before the first position, and through each."""
    ended: tuple[float, ...]
    """Of each layer: what has ended in feed-forward networks above it. With its shares it sums to 1."""
    edges: tuple[Tensor, ...]
    """Between a layer and the next one shown: (1 + n, 1 + n) what flows from each place above to each below."""
    mix: tuple[tuple[float, float, float], ...]
    """Between these: how much of what flows there came by the residual stream, by attention from other places or the
    own one, and by feed-forward networks, as means over the blocks between; each sums to 1."""


def flow(blocks: Sequence[BlockFlow], start: Tensor, layers: Sequence[int], ends: bool) -> TokenFlow:
    """Go down from what the last block puts out.

    blocks: the first one first. start: (n,) what flows through each position there; sums to 1. layers: those that are
    shown, the last one first, down to 0, the embedding.
    """
    share = torch.cat([torch.zeros(1), start.cpu()]).double()
    shares, ended, edges, mixes = [share], [0.0], [], []
    for above, below in pairwise(layers):
        through, mix = torch.eye(len(share), dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        for block in range(above, below, -1):
            mix += _mix(blocks[block - 1], share @ through)
            through = through @ blocks[block - 1].transition(ends)
        edges.append(share[:, None] * through)
        mixes.append(tuple((mix / mix.sum().clamp(min=1e-300)).tolist()))
        share = share @ through
        shares.append(share)
        ended.append(1.0 - float(share.sum()) if ends else 0.0)
    return TokenFlow(tuple(layers), tuple(shares), tuple(ended), tuple(edges), tuple(mixes))


def _mix(block: BlockFlow, share: Tensor) -> Tensor:
    """(3,) of what flows into a block from above: by the residual stream, attention, the feed-forward network."""
    here, fed, attended = share[1:], block.feed_forward.double().cpu(), block.attention.double().cpu()
    parts = (1 - fed) * (1 - attended), (1 - fed) * attended, fed
    return torch.stack([(here * part).sum() for part in parts])


def shown_layers(n_layers: int, rows: int) -> tuple[int, ...]:
    """At most so many layers, evenly from the last one down, and the embedding."""
    n = min(rows, n_layers)
    return tuple(round(n_layers * (n - at) / n) for at in range(n + 1))
