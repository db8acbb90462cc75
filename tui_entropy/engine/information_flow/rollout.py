"""Attention rollout: the attention of all blocks multiplied up, with the residual stream beside each.

Source: Abnar and Zuidema 2020, 'Quantifying Attention Flow in Transformers'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tui_entropy.engine.information_flow.attention_maps import AttentionMaps, first_aside


def through_block(shares: Tensor, maps: AttentionMaps, block: int, residual: float, aside: bool) -> Tensor:
    """(n,) float64 shares of the tokens of a text behind a block (1-based) -> those before it.

    A row vector times the matrix of the block, a stretch of rows at a time: so a whole text costs no matrix.
    residual: what each token keeps of its own. aside: without the first token.
    """
    before = residual * shares
    for queries, rows in maps.means(block, shares.nonzero()[:, 0]):
        rows = first_aside(rows, queries) if aside else rows
        before[: rows.shape[1]] += (1 - residual) * (shares[queries] @ rows.double())
    return before


def capacities(maps: AttentionMaps, block: int, first: int, n: int, residual: float, aside: bool) -> Tensor:
    """(m + 1, m + 1) float64 of a block (1-based): what each token from position `first` to before `n` can get of
    each, the first row and column being all text before them. Rows sum to 1."""
    m = n - first
    matrix = torch.zeros(m + 1, m + 1, dtype=torch.float64)
    matrix[0, 0] = 1.0
    for queries, rows in maps.means(block, torch.arange(first, n)):
        rows = (first_aside(rows, queries) if aside else rows).double().cpu()
        at = queries - first + 1
        matrix[at, 0] = (1 - residual) * rows[:, :first].sum(-1)
        matrix[at, 1 : rows.shape[1] - first + 1] = (1 - residual) * rows[:, first:]
        matrix[at, at] += residual
    return matrix
