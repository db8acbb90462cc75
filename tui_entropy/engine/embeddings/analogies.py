"""Analogies: whether one step leads from each first word of many pairs to its second, in an embedding.

France + mean(Tokyo - Japan, Cairo - Egypt, ...) = ? The step is the mean over all other pairs, so that no pair is
judged by itself. Source: Mikolov et al. 2013; the mean of many examples in place of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tui_entropy.engine.embeddings.nearest import Similarity, similarities

KS = (1, 5, 10)


class Pair(NamedTuple):
    first: int
    second: int
    """Ids of tokens."""


class Analogy(NamedTuple):
    pair: Pair
    rank: int
    """Of the second word among all tokens but the first one, from 1 on."""
    rank_without: int
    """The same with no step at all: how near the two are anyway."""
    top: tuple[int, ...]
    """The nearest tokens, the first word left out."""


def analogies(embedding: Tensor, pairs: Sequence[Pair], similarity: Similarity, k: int = 5) -> list[Analogy]:
    """Each pair by the mean step of all others. embedding: (vocab, d). There are two pairs at least."""
    first, second = (embedding[[pair[side] for pair in pairs]].float() for side in (0, 1))
    steps = second - first
    mean = (steps.sum(0) - steps) / (len(pairs) - 1)
    found = []
    for place, pair in enumerate(pairs):
        both = torch.stack([first[place] + mean[place], first[place]])
        near = similarities(both, embedding, similarity)
        near[:, pair.first] = -torch.inf
        rank, without = ((row > row[pair.second]).sum().item() + 1 for row in near)
        found.append(Analogy(pair, int(rank), int(without), tuple(near[0].topk(k).indices.tolist())))
    return found


def accuracy(found: Sequence[Analogy], k: int) -> tuple[float, float]:
    """The share of pairs whose second word is among the k nearest, with the step and without one."""
    hits = [(one.rank <= k, one.rank_without <= k) for one in found]
    return sum(hit for hit, _ in hits) / len(hits), sum(hit for _, hit in hits) / len(hits)
