"""The measures of attention in every head at the newest token, and what is kept to ask for more."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tui_entropy.engine.instruments.row_recording import TopRows
from tui_entropy.engine.instruments.tensor_metrics import disagreement, interaction_strength, row_moments, spread

HIDDEN = -1e30
"""The score of a key that the mask hides. Finite, so that 0 * HIDDEN is 0."""


class HeadStatistics(NamedTuple):
    """Measures of the newest query's row over its visible keys, on the device; NaN where a layer has no attention.

    With sinks, a row is what its keys get, taken as shares of it.
    """

    entropy: Tensor
    """(n_layers, n_heads) nats."""
    varentropy: Tensor
    """(n_layers, n_heads) nats squared, within each head's row."""
    layers: Tensor
    """(n_layers, len(ATTENTION)): spread, disagreement and interaction strength."""


class AttentionState:
    """The state that a probe holds of one text: its newest pass, and the queries before."""

    def __init__(self, keeps: bool = True) -> None:
        self.keeps = keeps
        """Whether rows can be asked for."""
        self.newest = -1
        """Position of the newest query."""
        self.queries: dict[int, Tensor] = {}
        """Of the newest pass: layer -> (batch, n_heads, n, d_head), its last n <= keep."""
        self.kept: dict[int, tuple[dict[int, Tensor], int]] = {}
        """Position, ascending -> the queries of its pass, and which of theirs is its own."""
        self.scores: dict[int, Tensor] = {}
        """Layer -> (batch, n_kv_heads, n_heads / n_kv_heads, keys) float32, of the newest query."""
        self.keys: dict[int, Tensor] = {}
        """Layer -> (batch, n_kv_heads, keys, d_head), the one that the cache holds too."""
        self.measured: Tensor | None = None
        """(batch, n_layers, 2 * n_heads + len(ATTENTION)): what `measures` says of the newest query, where it was
        worked out in its pass."""
        self.bias: tuple[Tensor | None, Tensor | None] = (None, None)
        self.rows: dict[int, TopRows] = {}
        """Row of the batch -> what is recorded of its newest query."""


def measured(scores: Tensor, weights: Tensor, visible: Tensor | None, n_heads: int) -> Tensor:
    """(layers, heads, keys) -> (layers, 2 * n_heads + len(ATTENTION)): Measures, side by side; NaN for heads that
    these layers do not have.

    weights: their softmax. visible: (layers, keys) bool, for scores of which some are HIDDEN.
    """
    entropy, varentropy = row_moments(scores, weights)
    whole = torch.stack([spread(entropy), disagreement(weights), interaction_strength(scores, visible)], -1)
    if n_heads > scores.shape[1]:
        entropy, varentropy = (
            pad(part, (0, n_heads - scores.shape[1]), value=math.nan) for part in (entropy, varentropy)
        )
    return torch.cat([entropy, varentropy, whole], -1)
