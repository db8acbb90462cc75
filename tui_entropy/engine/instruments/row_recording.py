"""Which attention rows of the newest query go into the record, and the largest weights of those, on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tui_entropy.records.quantised_rows import N_KEYS

WIDTH = 2 * N_KEYS + 1
"""Numbers of a row: N_KEYS weights, their positions, and what all other keys get."""


class TopRows(NamedTuple):
    """The rows of one query that go into its record."""

    rows: Tensor
    """(n_rows, WIDTH) float32 in the order of QuantisedRows, with one for the head beside the means also where none
    is shown; NaN where a block has no rows."""
    shown: tuple[int, int] | None
    """Block and head (1-based) of the row beside the means."""


class RowRecording:
    """Of every block the mean of its heads and beside them one head ('shown'), or also each head ('all'), or nothing
    ('off').

    Nothing here looks at a number on the host, so a CUDA graph can hold it: for one, which head is shown lies in a
    tensor.
    """

    def __init__(self, wanted: str, n_layers: int, n_heads: int) -> None:
        """wanted: one of records.settings.RECORDED_ROWS."""
        self.wanted, self.n_layers, self.n_heads = wanted, n_layers, n_heads
        self.shown: tuple[int, int] | None = None
        """Block and head (1-based) of the row beside the means."""
        self._is_shown: dict[torch.device, Tensor] = {}
        """(n_layers, n_heads) float32, 1 for that head and 0 for all others."""

    def __bool__(self) -> bool:
        return self.wanted != "off"

    @torch.inference_mode()
    def select(self, layer: int, head: int | None) -> None:
        """From now on this head (1-based) is the shown one; None for none."""
        self.shown = None if head is None or self.wanted != "shown" else (layer, head)
        for is_shown in self._is_shown.values():
            self._fill(is_shown)

    def _fill(self, is_shown: Tensor) -> None:
        is_shown.zero_()
        if self.shown is not None:
            is_shown[self.shown[0] - 1, self.shown[1] - 1] = 1.0

    def top(
        self, blocks: Sequence[int], weights: Tensor, first: int, in_graph: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The rows of some blocks (0-based), of weights (layers, heads, keys) whose first key is at position `first`.

        Returns (layers, 1 or 1 + n_heads, WIDTH), and in 'shown' (WIDTH,) of the shown head: where that is of another
        block zeros for a graph, which must do for any head, and else None.
        """
        mean = weights.mean(1, keepdim=True)
        if self.wanted == "all":
            heads = pad(largest(weights, first), (0, 0, 0, self.n_heads - weights.shape[1]), value=math.nan)
            return torch.cat([largest(mean, first), heads], 1), None
        if not in_graph:
            layer, head = self.shown or (0, 0)
            there = layer - 1 in blocks and head <= weights.shape[1]
            beside = largest(weights[blocks.index(layer - 1), head - 1], first) if there else None
            return largest(mean, first), beside
        if weights.device not in self._is_shown:
            self._is_shown[weights.device] = torch.zeros(self.n_layers, self.n_heads, device=weights.device)
            self._fill(self._is_shown[weights.device])
        which = torch.stack([self._is_shown[weights.device][index, : weights.shape[1]] for index in blocks])
        return largest(mean, first), largest(which.flatten() @ weights.flatten(0, 1), first)

    def together(
        self, parts: Sequence[tuple[Sequence[int], tuple[Tensor, Tensor | None]]], device: torch.device | None
    ) -> Tensor:
        """(n_rows, WIDTH) as in TopRows. parts: blocks, and what `top` made of them."""
        if not self:
            return torch.empty(0, WIDTH, device=device)
        unknown = torch.full((1 + self.n_heads * (self.wanted == "all"), WIDTH), math.nan, device=device)
        known = {index: rows for blocks, (found, _) in parts for index, rows in zip(blocks, found, strict=True)}
        rows = [known.get(index, unknown).to(unknown.device) for index in range(self.n_layers)]
        if self.wanted == "shown":
            beside = [row.to(unknown.device) for _, (_, row) in parts if row is not None]
            rows.append(torch.stack(beside).sum(0, keepdim=True) if beside else unknown)
        return torch.cat(rows)


def beside_sinks(weights: Tensor, scores: Tensor, sinks: Sequence[Tensor | None]) -> Tensor:
    """(layers, heads, keys) weights, the softmax of these scores, as what keys get where a learned sink takes its
    part of a row. sinks: (heads,) scores of each layer's, None for none."""
    if all(sink is None for sink in sinks):
        return weights
    shares = [
        torch.ones_like(row[:, 0]) if sink is None else (row.logsumexp(-1) - sink.float()).sigmoid()
        for sink, row in zip(sinks, scores, strict=True)
    ]
    return weights * torch.stack(shares).unsqueeze(-1)


def largest(weights: Tensor, first: int) -> Tensor:
    """(..., keys) rows -> (..., WIDTH). first: position of the first key. Keys of no weight have none."""
    k = min(N_KEYS, weights.shape[-1])
    best, at = weights.topk(k, -1, sorted=False)
    rest = (weights.sum(-1, keepdim=True) - best.sum(-1, keepdim=True)).clamp(min=0)
    keys = ((at + first) * (best > 0)).to(best.dtype)
    if k < N_KEYS:
        best, keys = pad(best, (0, N_KEYS - k)), pad(keys, (0, N_KEYS - k))
    return torch.cat([best, keys, rest], -1)
