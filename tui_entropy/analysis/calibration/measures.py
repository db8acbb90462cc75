"""Measures of calibration over pairs of a confidence and whether it was right: pure functions of arrays.

Sources: Naeini et al. 2015 and Guo et al. 2017 (expected and maximum calibration error over bins of equal width),
Nguyen and O'Connor 2015 (bins of equal count), Brier 1950.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

N_BINS = 15
"""As many as Guo et al. take."""
MIN_PAIRS = 100
"""Fewer say nothing of a calibration error: with few pairs a bin it is large for a model that is well calibrated."""
N_RESAMPLES = 1000
INTERVAL = 2.5, 97.5
"""Percentiles between which a bootstrap interval lies."""


class Bin(NamedTuple):
    """The pairs whose confidence lies in (low, high], in the first bin also those of exactly low."""

    low: float
    high: float
    n: int
    confidence: float
    """Their mean; NaN where there is none."""
    accuracy: float
    """The share that was right; NaN where there is none."""


class Errors(NamedTuple):
    """How far confidence and accuracy are apart."""

    ece: float
    """The mean over pairs of how far their bin is off: sum n_b / N |accuracy - confidence|."""
    mce: float
    """The bin that is off most; those without a pair have no part in it."""
    adaptive_ece: float
    """The mean over bins of equal count."""
    gap: float
    """Mean confidence minus accuracy: above 0 is too sure, below 0 not sure enough."""
    brier: float
    """Mean of (confidence - right)²."""


def bin_of(confidence: Floats, n_bins: int = N_BINS) -> npt.NDArray[np.int64]:
    """The bin of equal width of each: (lo, hi]. Exactly 0.0 is in the first, and 1.0 in the last."""
    edges = np.linspace(0, 1, n_bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1).astype(np.int64)


def bins(confidence: Floats, correct: Flags, n_bins: int = N_BINS) -> list[Bin]:
    """Of equal width over 0 ... 1."""
    edges, at = np.linspace(0, 1, n_bins + 1), bin_of(confidence, n_bins)
    n = np.bincount(at, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(at, confidence, n_bins) / n
        shares = np.bincount(at, correct.astype(float), n_bins) / n
    rows = zip(edges, edges[1:], n, means, shares, strict=False)
    return [Bin(float(low), float(high), int(k), float(mean), float(share)) for low, high, k, mean, share in rows]


def errors(confidence: Floats, correct: Flags, n_bins: int = N_BINS) -> Errors:
    """confidence, correct: (n,), n at least 1."""
    of_bins = [one for one in bins(confidence, correct, n_bins) if one.n]
    off = [abs(one.accuracy - one.confidence) for one in of_bins]
    ece = sum(one.n * far for one, far in zip(of_bins, off, strict=True)) / len(confidence)
    right = correct.astype(float)
    return Errors(
        float(ece),
        float(max(off)),
        _adaptive_ece(confidence, right, n_bins),
        float(confidence.mean() - right.mean()),
        float(np.square(confidence - right).mean()),
    )


def _adaptive_ece(confidence: Floats, right: Floats, n_bins: int) -> float:
    """Pairs of one confidence that bins part share what they got right, so that their order is nothing."""
    _, at, n = np.unique(confidence, return_inverse=True, return_counts=True)
    right = (np.bincount(at, right) / n)[at]
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, n_bins) if len(part)]
    off = sum(len(part) * abs(confidence[part].mean() - right[part].mean()) for part in parts)
    return float(off) / len(confidence)


def bootstrap(
    measure: Callable[[npt.NDArray[np.int64]], float],
    groups: npt.NDArray[np.int64],
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> tuple[float, float]:
    """An interval of a measure, by drawing whole groups of pairs with replacement.

    groups: (n,) the group of each pair, such as its text, 0 ... n_groups - 1: what stands together is drawn together,
    as tokens of one text are not independent. measure: given the indices of pairs. Source: Efron 1979.
    """
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    draws = np.random.default_rng(seed)
    found = [
        measure(np.concatenate([members[one] for one in draws.integers(len(members), size=len(members))]))
        for _ in range(n_resamples)
    ]
    low, high = np.percentile(found, INTERVAL)
    return float(low), float(high)
