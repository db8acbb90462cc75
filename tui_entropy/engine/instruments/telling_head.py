"""The head that a person is shown first: one whose rows say something, found by what it looked at so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tui_entropy.engine.instruments.attention import AttentionInstrument, AttentionLayer

MIN_QUERIES, MAX_QUERIES = 16, 32
"""Newest rows that it is judged by: fewer say too little, more cost more."""


@torch.inference_mode()
def telling_head(probe: AttentionInstrument) -> tuple[int, int] | None:
    """Block and head (1-based) with the largest `movement` over the newest rows of the text that is looked at. None
    while too few rows are kept, and where no block has any. One copy off the device."""
    positions = list(probe.attention_state.kept)[-MAX_QUERIES:]
    if len(positions) < MIN_QUERIES:
        return None
    places, scores = list[tuple[int, int]](), list[Tensor]()
    for layer, there in rows_of_all_keys(probe, positions, MIN_QUERIES):
        weights, _ = layer.weights(there)
        found = movement(weights, torch.tensor(there, device=weights.device) - layer.first_column, layer.first_column)
        places += [(layer.index + 1, head) for head in range(1, len(found) + 1)]
        scores.append(found)
    if not scores:
        return None
    every = torch.cat([score.to(scores[0].device) for score in scores])
    return places[int(every.argmax())]


def rows_of_all_keys(
    probe: AttentionInstrument, positions: Sequence[int], least: int
) -> Iterator[tuple[AttentionLayer, list[int]]]:
    """The layers whose rows at these positions can be computed with all their keys, and at which of them: at no fewer
    than `least`."""
    for layer in probe.layers:
        there = [at for at in positions if layer.index in probe.attention_state.kept[at][0]]
        if layer.biased or layer.key is None or len(there) < least:
            continue
        if layer.first_visible(there[0]) >= layer.first_column:  # else its cache slid on and lacks keys
            yield layer, there


def movement(weights: Tensor, own: Tensor, first: int = 0) -> Tensor:
    """How much the rows of a head differ from their mean, over keys that are neither the first of the text, nor the
    query itself, nor the one before it: mean over queries of sum (w - mean w)².

    0 for a head that looks at the first token, at itself, at the token before, at everything alike, or always at the
    same places; up to 1 for one that gives all its weight to another far key at each query. weights: (heads, queries,
    keys), the first key at position `first`; own: (queries,) the column of each query. Returns (heads,).
    """
    columns = torch.arange(weights.shape[-1], device=weights.device)
    far = (columns < own[:, None] - 1) & (columns + first > 0)
    kept = weights * far
    return (kept - kept.mean(1, keepdim=True)).square().sum(-1).mean(-1)
