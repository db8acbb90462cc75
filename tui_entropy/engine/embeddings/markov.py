"""The first-order Markov reading: what the output embedding says of an input embedding, with no block in between.

A model whose blocks did nothing would be a table of bigrams: its residual stream would carry each token's embedding
to the head, which would tell what follows it. How near a model's two embeddings come to that is held against the
bigrams of a text. Source: Elhage et al. 2021, 'A Mathematical Framework', on the direct path of a transformer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

TOGETHER = 64
"""Tokens whose logits are had at a time."""


class Follower(NamedTuple):
    token: int
    n: int
    """How often the text has it, with one behind it."""
    said: int
    """The token that the direct path says comes next."""
    most_frequent: int
    """The one that comes next most often; of several the first in the text."""
    kl: float
    """KL(bigrams || direct path) in nats."""
    kl_of_frequencies: float
    """KL(bigrams || how often each token is there at all), in nats: what knowing nothing of this token has."""

    @property
    def hit(self) -> bool:
        return self.said == self.most_frequent


class MarkovReading(NamedTuple):
    followers: tuple[Follower, ...]
    """Of every token that is there often enough, the most frequent first."""
    identity: float
    """The share of them of which the direct path says the same token once more, as tied embeddings do."""
    most_frequent_token: int
    """Of the whole text, which is what knowing nothing would say after each."""


def markov_reading(
    ids: Sequence[int],
    logits: Callable[[Tensor], Tensor],
    least: int,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> MarkovReading:
    """logits: (m,) ids -> (m, vocab) float32 of the direct path. least: how often a token must have one behind it."""
    after: dict[int, Counter[int]] = {}
    for one, other in pairwise(ids):
        after.setdefault(one, Counter())[other] += 1
    often = Counter({token: counts.total() for token, counts in after.items() if counts.total() >= least})
    tokens, frequencies = [token for token, _ in often.most_common()], Counter(ids)
    followers: list[Follower] = []
    for at in range(0, len(tokens), TOGETHER):
        progress(at, len(tokens))
        some = tokens[at : at + TOGETHER]
        logp = logits(torch.tensor(some)).double().log_softmax(-1).cpu()
        for token, row in zip(some, logp, strict=True):
            counts = after[token]
            share = torch.tensor(list(counts.values()), dtype=torch.float64) / counts.total()
            seen = torch.tensor([frequencies[one] for one in counts], dtype=torch.float64) / len(ids)
            kl = float((share * (share.log() - row[list(counts)])).sum())
            plain = float((share * (share.log() - seen.log())).sum())
            best = counts.most_common(1)[0][0]
            followers.append(Follower(token, counts.total(), int(row.argmax()), best, kl, plain))
    same = sum(one.said == one.token for one in followers) / max(len(followers), 1)
    return MarkovReading(tuple(followers), same, frequencies.most_common(1)[0][0])


def weighted(followers: Sequence[Follower], value: Callable[[Follower], float]) -> float:
    """The mean over the tokens of a text: each counts as often as it is there."""
    return sum(one.n * value(one) for one in followers) / sum(one.n for one in followers)
