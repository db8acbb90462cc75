"""The places that each head looks at wherever it is: sink, previous token, same token, duplicates, induction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tui_entropy.engine.instruments.attention import AttentionInstrument
from tui_entropy.engine.instruments.telling_head import rows_of_all_keys
from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.head_patterns import MAX_QUERIES, PATTERNS, HeadPatterns

MIN_QUERIES, MIN_COPIES = 16, 4
"""Rows that are enough to judge by, and those among them whose token occurred before."""


@torch.inference_mode()
def head_patterns(probe: AttentionInstrument, ids: Tensor, n_queries: int = MAX_QUERIES) -> HeadPatterns | None:
    """Mean weight of each head on the places of PATTERNS, over the newest rows that are kept of the text that is
    looked at. ids: (n,) of its tokens; no later row counts. None where no block has enough of them. One copy off the
    device."""
    held, n_layers = probe.attention_state, probe.architecture.n_layers
    positions = [position for position in held.kept if 1 < position < len(ids)][-n_queries:]
    unknown = torch.full((len(PATTERNS), probe.n_heads), math.nan)
    found: dict[int, Tensor] = {}
    for layer, there in rows_of_all_keys(probe, positions, MIN_QUERIES):
        weights, visible = layer.weights(there)
        shares = pattern_shares(weights, visible, ids.to(weights.device), there, layer.first_column)
        found[layer.index] = torch.nn.functional.pad(shares, (0, probe.n_heads - shares.shape[1]), value=math.nan)
    if not found:
        return None
    device = next(iter(found.values())).device
    every = torch.stack([found.get(index, unknown).to(device) for index in range(n_layers)], 1).cpu().numpy()
    return HeadPatterns(tuple(Grid.of(grid) for grid in every))


def pattern_shares(weights: Tensor, visible: Tensor, ids: Tensor, positions: Sequence[int], first: int) -> Tensor:
    """(n_heads, queries, keys) rows, of which a learnt sink has taken its part, and (queries, keys) which keys are
    visible -> (len(PATTERNS), n_heads). ids: (n,) of the whole text. positions: of the queries. first: that of the
    first key. NaN for copies, where fewer than MIN_COPIES of the tokens have one that is visible."""
    query = torch.tensor(positions, device=weights.device)[:, None]
    key = first + torch.arange(weights.shape[-1], device=weights.device)[None]
    last = len(ids) - 1  # keys of tokens beyond are not visible to these queries
    alike = ids[key.clamp(0, last)] == ids[query]
    after_alike = (ids[(key - 1).clamp(0, last)] == ids[query]) & (key > 0) & (key <= query)
    places = (
        torch.stack([(key == 0).expand_as(alike), key == query - 1, key == query, alike & (key < query), after_alike])
        & visible
    )
    each = torch.einsum("hqk,pqk->phq", weights, places.float())
    each[0] += 1 - weights.sum(-1)
    copies = places[3:].any(-1)  # (2, queries)
    n = copies.sum(-1)
    copied = (each[3:] * copies[:, None]).sum(-1) / n[:, None]
    return torch.cat([each[:3].mean(-1), copied.masked_fill(n[:, None] < MIN_COPIES, math.nan)])
