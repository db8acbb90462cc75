"""Shares: how much of what a block made of the residual stream came of attention, and of the feed-forward network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tui_entropy.engine.decomposition.block_parts import BlockParts

ShareName = Literal["norm", "kl"]
Norm = Callable[[Tensor], Tensor]


def share_of_added(stream: Tensor, added: Tensor | None, how: ShareName, norm: Norm) -> Tensor:
    """(n, d) and (n, d) -> (n,) in 0 ... 1: of a sum, how much is what was added and not the stream before it.

    norm: by length. kl: by how little the softmax over the d numbers of each part, behind the final norm, differs
    from that of the sum. Source: InTraVisTo (Belardinelli et al. 2025). None was added: 0.
    """
    if added is None:
        return torch.zeros(len(stream), device=stream.device)
    if how == "norm":
        lengths = [torch.linalg.vector_norm(part.float(), dim=-1) for part in (stream, added)]
        share: Tensor = lengths[1] / (lengths[0] + lengths[1]).clamp(min=1e-30)
        return share
    logs = [norm(part).float().log_softmax(-1) for part in (stream + added, stream, added)]
    far = [(logs[0].exp() * (logs[0] - log)).sum(-1) for log in logs[1:]]
    return 1 - far[1] / (far[0] + far[1] + 1e-10)


def shares(parts: BlockParts, how: ShareName, norm: Norm) -> tuple[Tensor, Tensor]:
    """(n,) share of attention in the stream behind it, and of the feed-forward network in what the block puts out."""
    return (
        share_of_added(parts.stream, parts.attention, how, norm),
        share_of_added(parts.intermediate, parts.feed_forward, how, norm),
    )
