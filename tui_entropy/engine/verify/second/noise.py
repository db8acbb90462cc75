"""The noise of a draw from its definition: SplitMix64 of seed, position and token id, in whole numbers; and how even
draws are."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tui_entropy.engine.verify.second.belief import Floats

Words = npt.NDArray[np.uint64]
WORD = 1 << 64
NONE = -1
"""The token id that is none: its number is that of the step itself."""


def splitmix(word: int) -> int:
    """The next output of SplitMix64 in this state."""
    return int(finish(np.array([(word + 0x9E3779B97F4A7C15) % WORD], dtype=np.uint64))[0])


def finish(words: Words) -> Words:
    """The output that SplitMix64 makes of a state; uint64 wraps around."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


def uniforms(seed: int, position: int, token_ids: npt.ArrayLike) -> Floats:
    """(n,) token ids -> (n,) in (0, 1): the upper 31 bits of a hash."""
    start = splitmix((splitmix(seed % WORD) + position) % WORD)
    states = np.asarray(token_ids, dtype=np.int64).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = finish(states + np.uint64(start)) >> np.uint64(33)
    return (bits.astype(np.float32).astype(np.float64) + 0.5) / 2**31


def of_step(seed: int, position: int) -> float:
    """The number that XTC asks."""
    return float(uniforms(seed, position, [NONE])[0])


def gumbel(seed: int, position: int, token_ids: npt.ArrayLike) -> Floats:
    noise: Floats = -np.log(-np.log1p(-np.minimum(uniforms(seed, position, token_ids), 1 - 2**-24)))
    return noise


REACH = 26.0
"""Noise lies between -3 and 23: a token further below the best than this can not win."""


def possible_draws(scores: Floats, seed: int, position: int, close: float) -> frozenset[int]:
    """The tokens that softmax(scores) may give: the winner, and those whose score with its noise is nearer to the
    winner's than `close`."""
    alive = np.flatnonzero(scores > scores.max() - REACH)
    noisy = scores[alive] + gumbel(seed, position, alive)
    return frozenset(alive[noisy >= noisy.max() - close].tolist())


def chi_square(counts: npt.NDArray[np.int64], shares: Floats) -> tuple[float, int]:
    """Chi-square of how often each outcome came, and its degrees of freedom. Outcomes expected less than five times
    are pooled."""
    n = counts.sum()
    often = shares * n >= 5
    seen = np.append(counts[often], n - counts[often].sum())
    expected = np.append(shares[often] * n, n * max(1 - shares[often].sum(), 0.0))
    possible = expected > 1e-6 * n
    beyond = seen[~possible].sum()
    statistic = float(((seen - expected)[possible] ** 2 / expected[possible]).sum())
    return (math.inf if beyond else statistic), max(int(possible.sum()) - 1, 1)


def chi_square_bound(freedom: int, deviations: float = 4.75) -> float:
    """The value that chi-square exceeds once in a million times. Source: Wilson and Hilferty 1931."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + deviations * math.sqrt(part)) ** 3)
