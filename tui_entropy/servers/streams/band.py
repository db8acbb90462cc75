"""Bounds of what the whole distribution would tell, where only its most probable tokens are known.

Of k probabilities p_1 >= ... >= p_k of V tokens are known, and r = 1 - sum p is left for V - k further ones, none of
which is above p_k. The sum over those of a concave f with f(0) = 0 is largest where they share r evenly, and smallest
where as many as possible have p_k each, one has what remains, and the others nothing. So for entropy, f = -p ln p:

    upper = H_k + r ln((V - k) / r)
    lower = H_k - floor(r / p_k) p_k ln p_k - rest ln rest

Example: p = (1/2, 1/4) of V = 4: r = 1/4 is one token of 1/4 (lower, 1.5 ln 2) or two of 1/8 (upper, 1.75 ln 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

MOST_VOCAB = 2**20
"""No vocabulary is larger: bands end as if there were so many tokens where a server does not tell how many."""
ROUNDING = 1e-3
"""By how much probabilities that a server tells may add up to more than 1: llama.cpp adds up in float32, and its
49,152 come to 1.00017."""


class Band(NamedTuple):
    """What a number lies between. Nats, or nats squared."""

    low: float
    high: float

    @property
    def is_point(self) -> bool:
        return self.high - self.low <= 1e-6 * max(1.0, abs(self.high))


def are_probabilities(logprobs: Sequence[float]) -> bool:
    """Whether they can be log-probabilities of different tokens: none is above 0 and together they are at most 1. All
    exactly 0, as some servers write where they measured none, is more than 1 unless there is one alone."""
    return all(value <= ROUNDING for value in logprobs) and math.fsum(map(math.exp, logprobs)) <= 1 + ROUNDING


def entropy_band(logprobs: Sequence[float], vocab: int, lost: bool = False) -> Band:
    """As the first of `bands`."""
    return bands(logprobs, vocab, lost)[0]


def bands(logprobs: Sequence[float], vocab: int, lost: bool = False) -> tuple[Band, Band | None]:
    """Of entropy, and of varentropy: of the variance of -ln p, whose second moment has f = p ln^2 p, which is concave
    below 1/e only. That is None where the tokens that are not known may lie above.

    logprobs: (k,) nats, the most probable tokens of all, most probable first, k >= 1. vocab: V >= k. lost: some of
    the most probable ones may be missing among them, so that one that is not told may be as probable as the first.
    """
    probs = [math.exp(value) for value in logprobs]
    terms = [p * value if p else 0.0 for p, value in zip(probs, logprobs, strict=True)]
    left, others = max(1.0 - math.fsum(probs), 0.0), vocab - len(probs)
    most = probs[0 if lost else -1]
    first = _band(-math.fsum(terms), left, others, most, lambda p: -p * math.log(p) if p > 0 else 0.0)
    if min(most, left) > 1 / math.e:
        return first, None
    squares = math.fsum(term * value if term else 0.0 for term, value in zip(terms, logprobs, strict=True))
    second = _band(squares, left, others, most, lambda p: p * math.log(p) ** 2 if p > 0 else 0.0)
    return first, Band(max(second.low - first.high**2, 0.0), max(second.high - first.low**2, 0.0))


def _band(known: float, left: float, others: int, most: float, of: Callable[[float], float]) -> Band:
    """Of the sum of f over all tokens. known: what those that are told have of it. left: the probability of the
    others, none of which has more than `most`."""
    if left <= 0 or others <= 0:
        return Band(known, known)
    # Rounding may leave more than the others can have at p_k each.
    most = max(most, left / others)
    whole = min(math.floor(left / most), others)
    rest = max(left - whole * most, 0.0) if whole < others else 0.0
    return Band(known + whole * of(most) + of(rest), known + others * of(left / others))
