"""The noise of a draw: numbers that are functions of seed and position, on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Constants of SplitMix64. Source: Steele, Lea, Flood 2014, 'Fast splittable pseudorandom number generators'."""


def gumbel(token_ids: Tensor, seed: int, position: int) -> Tensor:
    """(n,) int64 ids -> (n,) float32 standard Gumbel noise, a function of (seed, position, token id) alone."""
    return gumbel_of(token_ids, stream(seed, position))


def gumbel_of(token_ids: Tensor, stream: int | Tensor) -> Tensor:
    """(n,) noise of a stream: that of seed and position; a 0-d int64 where it is not to be waited for."""
    return -(-(-_uniform(token_ids, stream)).log1p()).log()


def uniform(seed: int, position: int) -> float:
    """A uniform number per step: that of a token which is none, so independent of the noise of all that are."""
    return float(_uniform(torch.tensor([-1]), stream(seed, position)))


def stream(seed: int, position: int) -> int:
    """The number that picks the noise of a draw, as an int64."""
    return _signed(_mixed(_mixed(seed & MASK) + position & MASK))


def _uniform(token_ids: Tensor, stream: int | Tensor) -> Tensor:
    """(n,) int64 ids -> (n,) float32 in (0, 1).

    A counter-based hash, so that the noise of one token costs nothing for the others: SplitMix64 of the token id in a
    stream that (seed, position) picks. 31 of its bits become a uniform number.
    """
    bits = token_ids * _signed(GOLDEN) + stream
    for shift, factor in ((30, FIRST), (27, SECOND)):
        bits = (bits ^ _shifted(bits, shift)) * _signed(factor)
    bits = _shifted(bits ^ _shifted(bits, 31), 33)
    # Small numbers are where the winners are, and there float32 is finest; at 1 the logarithm would be infinite.
    # So Gumbel noise lies between -ln(24 ln 2) and 32 ln 2.
    return ((bits.float() + 0.5) * 2**-31).clamp(max=1 - 2**-24)


MASK = 2**64 - 1
NOISE_SPREAD = 32 * math.log(2) + math.log(24 * math.log(2)) + 0.1
"""The distance below the best score at which a token can not win (the 0.1 is for rounding)."""


def _mixed(word: int) -> int:
    """SplitMix64 of one 64-bit word."""
    word = word + GOLDEN & MASK
    word = (word ^ word >> 30) * FIRST & MASK
    word = (word ^ word >> 27) * SECOND & MASK
    return word ^ word >> 31


def _signed(word: int) -> int:
    """The int64 with the same bits."""
    return word - 2**64 if word >> 63 else word


def _shifted(words: Tensor, by: int) -> Tensor:
    """Logical shift to the right; int64's own keeps the sign."""
    return (words >> by) & ((1 << 64 - by) - 1)
