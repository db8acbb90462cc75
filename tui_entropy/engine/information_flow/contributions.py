"""Contributions: of a sum of vectors, how much is each of them.

As information flow routes have it (Ferrando and Voita 2024): by how much shorter the sum is without a part, in L1,
where what shortens it counts nothing. By length or by KL they are in `decomposition.shares`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.attribution.pass_record import layouts
from tui_entropy.engine.decomposition.block_parts import BlockParts
from tui_entropy.engine.instruments.attention_functions import Attended, overheard

LEAST = 1e-5
"""What a part that shortens the sum counts all the same: so shares always sum to 1."""
TOLERANCE = 1e-2
"""Of the length of what attention adds: how far its parts may be from summing to it."""
NO_HEADS = "between the heads of this model and what its attention adds stands more than a matrix and a scale"


class NoHeads(Exception):
    """Why attention cannot be divided into heads and tokens: half a sentence."""


@dataclass
class HeadRecord:
    """What the attention of a block heard and said at the newest positions."""

    value: Tensor | None = None
    """(n_kv_heads, keys, d_value)"""
    mixed: list[Tensor] = field(default_factory=list)
    """(n, n_heads, d_value) of each pass."""
    given: list[Tensor] = field(default_factory=list)
    """(n, n_heads * d_value) that the last matrix was given in each pass."""
    matrix: nn.Module | None = None


def routes(whole: Tensor, parts: Tensor) -> Tensor:
    """(..., d) and (..., m, d) that sum to it -> (..., m) contributions, not divided by their sum."""
    length = whole.abs().sum(-1, keepdim=True)
    return (length - (whole[..., None, :] - parts).abs().sum(-1)).clamp(min=LEAST)


@contextmanager
def heard_heads(architecture: Architecture, n: int) -> Iterator[list[HeadRecord]]:
    """Keep what is needed to divide the attention of each block at the newest n positions, while the `with` lasts."""
    records = [HeadRecord() for _ in architecture.blocks]
    modules = zip(architecture.attention_modules, records, strict=True)
    of_module = {module: record for module, record in modules if module is not None}

    def hear(module: nn.Module, attended: Attended) -> None:
        record = of_module[module]
        record.value = attended.value[0]
        record.mixed.append(attended.mixed[0, -n:].clone())

    def enter(record: HeadRecord, matrix: nn.Module, args: Any) -> None:
        # The one that is called last after heads have mixed their values.
        if args and len(record.given) <= len(record.mixed) and record.mixed:
            del record.given[len(record.mixed) - 1 :]
            record.given.append(args[0][0, -n:].clone())
            record.matrix = matrix

    with ExitStack() as hooks:
        for record, layout in zip(records, layouts(architecture), strict=True):
            for matrix in layout.matrices:
                hooks.callback(matrix.register_forward_pre_hook(partial(enter, record)).remove)
        hooks.enter_context(overheard(of_module, hear))
        yield records


def attention_routes(record: HeadRecord, parts: BlockParts, weights: Tensor) -> Tensor:
    """(n, 1 + keys) contributions of the stream, and of each key through all heads, to the stream behind attention;
    each row sums to 1.

    weights: (n_heads, n, keys). What stands behind the heads' matrix is frozen at the scale that it had; its bias is
    the token's own, as the stream is. Raises NoHeads.
    """
    assert parts.attention is not None
    n_heads, n, n_keys = weights.shape
    if record.matrix is None or record.value is None:
        raise NoHeads(NO_HEADS)
    mixed, given = (torch.cat(each)[-n:].float() for each in (record.mixed, record.given))
    if given.shape[-1] != mixed[0].numel():
        raise NoHeads(NO_HEADS)
    of_head, scale, bias = _behind_heads(record.matrix, parts.attention, given, mixed.shape[1:])
    gate = torch.where(mixed == 0, 0, given.view_as(mixed) / mixed)
    gated = bool((gate - 1).abs().max() > 1e-3)
    value = record.value[:, :n_keys].float().repeat_interleave(n_heads // len(record.value), 0)
    whole = parts.stream + parts.attention
    own = routes(whole, torch.stack([parts.stream, bias], -2)).sum(-1)
    contributions = torch.zeros(n, n_keys, device=whole.device)
    total = bias.clone()
    for head in range(n_heads):
        said = value[head] @ of_head[head]
        for query in range(n):
            vectors = (value[head] * gate[query, head]) @ of_head[head] if gated else said
            vectors = vectors * scale[query] * weights[head, query][:, None]
            total[query] += vectors.sum(0)
            contributions[query] += routes(whole[query], vectors) * (weights[head, query] > 0)
    missing = torch.linalg.vector_norm(total - parts.attention, dim=-1)
    if bool((missing > TOLERANCE * torch.linalg.vector_norm(parts.attention, dim=-1)).any()):
        raise NoHeads(NO_HEADS)
    every = torch.cat([own[:, None], contributions], -1)
    return every / every.sum(-1, keepdim=True)


def _behind_heads(
    matrix: nn.Module, added: Tensor, given: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor, Tensor]:
    """(n_heads, d_value, d_model) what the matrix makes of each head; (n, d_model) the scale of what stands behind
    it; (n, d_model) what its bias adds, so scaled."""
    dtype = next((one.dtype for one in matrix.parameters() if one.is_floating_point()), given.dtype)
    eye = torch.eye(given.shape[-1], dtype=dtype, device=given.device)
    said: Tensor = matrix.forward(given.to(dtype)).float()
    nothing: Tensor = matrix.forward(torch.zeros_like(eye[:1])).float()
    columns = (matrix.forward(eye).float() - nothing).view(*shape, -1)
    if said.shape != added.shape:
        raise NoHeads(NO_HEADS)
    scale = torch.where(said.abs() < 1e-12, 0, added / said)
    return columns, scale, nothing * scale


def feed_forward_routes(parts: BlockParts) -> Tensor:
    """(n,) share of the feed-forward network in what the block puts out."""
    if parts.feed_forward is None:
        return torch.zeros(len(parts.output), device=parts.output.device)
    both = routes(parts.output, torch.stack([parts.output - parts.feed_forward, parts.feed_forward], -2))
    share: Tensor = both[:, 1] / both.sum(-1)
    return share
