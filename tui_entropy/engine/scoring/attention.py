"""What is told of the attention of a batch, block by block while the batch is read: the entropy of its rows, and what
each token gives itself.

The scores of a block are worked out a stretch of queries at a time: no matrix of queries x keys is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture, dispatches_attention
from tui_entropy.engine.instruments.attention_functions import AttentionFunction, calling, own_function
from tui_entropy.engine.instruments.head_measures import HIDDEN
from tui_entropy.engine.instruments.tensor_metrics import attention_scores, row_moments
from tui_entropy.engine.scoring.batches import Places

AT_A_TIME = 1 << 18
"""Scores that are measured together: what is made of them stays in the cache of a processor."""
Take = Callable[[int, Tensor, Tensor, Tensor, Any], None]
"""Told of each block: which (0-based), and the query, key, mask and other arguments of its attention function."""


class AttentionEntropies:
    """The means of heads that the blocks of a pass have told."""

    def __init__(self, n_layers: int, places: Places) -> None:
        self._places = places
        self._blocks: list[Tensor | None] = [None] * n_layers

    def take(self, block: int, query: Tensor, key: Tensor, mask: Tensor, more: Any) -> None:
        """block: 0-based. query, key, mask, more: what the attention function of the block was given."""
        places = self._places
        added = more.get("position_bias")
        if places.single:  # one query of each row is all that is wanted
            at = torch.arange(len(query), device=query.device), places.positions.to(query.device)
            mask = mask.expand(len(query), -1, -1, -1)[at[0], :, at[1]].unsqueeze(2)
            added = None if added is None else added.expand(len(query), -1, -1, -1)[at[0], :, at[1]].unsqueeze(2)
            of_rows = mean_entropies(query[at[0], :, at[1]].unsqueeze(2), key, mask, added, more)[:, 0]
        else:
            whole = mean_entropies(query, key, mask, added, more)
            of_rows = places.of(whole.to(places.rows.device))
        self._blocks[block] = of_rows

    def table(self) -> Tensor:
        """(n_layers, n) nats; NaN for blocks without rows."""
        n, device = len(self._places.rows), self._places.rows.device
        unknown = torch.full((n,), math.nan, device=device)
        return torch.stack([unknown if one is None else one.to(device) for one in self._blocks])


class AttentionDiagonals:
    """What each token gives itself, head by head, in some blocks of a pass (1-based)."""

    def __init__(self, blocks: Sequence[int]) -> None:
        self._blocks: dict[int, Tensor | None] = dict.fromkeys(blocks)

    def take(self, block: int, query: Tensor, key: Tensor, mask: Tensor, more: Any) -> None:
        if block + 1 not in self._blocks:
            return
        rows = []
        for first, scores in score_rows(query, key, mask, more.get("position_bias"), more):
            own = torch.arange(first, first + scores.shape[2], device=scores.device)
            one = scores.gather(-1, own.view(1, 1, -1, 1).expand(*scores.shape[:2], -1, 1)).squeeze(-1)
            rows.append((one - scores.logsumexp(-1)).exp())
        self._blocks[block + 1] = torch.cat(rows, 2)

    def by_row(self, lengths: Sequence[int]) -> list[Tensor | None]:
        """(blocks, n_heads, n_tokens) of each row of the batch, as long as it is, of those blocks that have
        attention, on the host; None where none has."""
        known = [one.cpu() for one in self._blocks.values() if one is not None]
        if not known:
            return [None] * len(lengths)
        return [torch.stack([one[row, :, :n] for one in known]) for row, n in enumerate(lengths)]


@contextmanager
def heard_attention(architecture: Architecture, takers: Sequence[Take]) -> Iterator[None]:
    """Tell of the attention of every block that has rows, for as long as the `with` lasts."""
    if not takers or not any(architecture.attention):
        yield
        return
    own = own_function(architecture.decoder)
    functions: dict[nn.Module, AttentionFunction] = {
        module: own for module in architecture.decoder.modules() if dispatches_attention(module)
    }
    for block, module in enumerate(architecture.attention_modules):
        if module is not None:
            functions[module] = partial(_attend, takers, block, own, architecture.left_to_right)
    with calling(architecture.decoder, functions):
        yield


def _attend(
    takers: Sequence[Take],
    block: int,
    own: AttentionFunction,
    left_to_right: bool,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    n, n_keys = query.shape[2], key.shape[2]
    if attention_mask is not None:
        mask = attention_mask[..., :n_keys]
    else:
        seen = torch.ones(n, n_keys, dtype=torch.bool, device=query.device)
        mask = (seen.tril(n_keys - n) if left_to_right else seen)[None, None]
        # A function that gets none takes the text for one that is read from left to right.
        attention_mask = None if left_to_right else mask
    for take in takers:
        take(block, query, key, mask, kwargs)
    return own(module, query, key, value, attention_mask, **kwargs)


def mean_entropies(query: Tensor, key: Tensor, mask: Tensor, added: Tensor | None, more: Any) -> Tensor:
    """(batch, n_heads, n, d_head) queries -> (batch, n) nats: the entropy of what keys get, as shares of it, the mean
    of heads."""
    rows = [row_moments(scores)[0].mean(1) for _, scores in score_rows(query, key, mask, added, more)]
    return torch.cat(rows, 1)


def score_rows(
    query: Tensor, key: Tensor, mask: Tensor, added: Tensor | None, more: Any
) -> Iterator[tuple[int, Tensor]]:
    """The first of a stretch of queries, and its scores before the softmax, (batch, n_heads, queries, keys) float32.
    A learned sink takes no part.

    mask: (1 or batch, 1 or n_heads, n, keys), whether a key is seen, or what is added to its score.
    """
    batch, n_heads, n, width = query.shape
    scaling, softcap = more.get("scaling") or width**-0.5, more.get("softcap")
    none = torch.zeros(1, 1, 1, device=query.device)
    stretch = max(AT_A_TIME // (batch * n_heads * key.shape[2]), 1)
    for first in range(0, n, stretch):
        part = query[:, :, first : first + stretch]
        scores = attention_scores(part, key, none, scaling, softcap).view(batch, n_heads, part.shape[2], -1)
        if added is not None:
            scores = scores + added[:, :, first : first + stretch].float()
        hiding = mask[:, :, first : first + stretch]
        if hiding.dtype is torch.bool:
            scores = scores.masked_fill(~hiding, HIDDEN)
        else:
            scores = scores + hiding.float().clamp(min=HIDDEN)
        yield first, scores
