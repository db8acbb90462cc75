"""How well a score tells wrong from right: pure functions of arrays, where higher scores are less certain.

Sources: Mann and Whitney 1947, Hanley and McNeil 1982 (the area under the ROC curve as a share of pairs), DeLong et
al. 1988 (its standard error), Malinin and Gales 2021 (rejection curves and the ratio of their areas).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Auroc(NamedTuple):
    """The share of pairs of a wrong and a right one in which the wrong one has the higher score; a tie is half."""

    value: float
    """1 tells all apart, 0.5 nothing."""
    error: float | None
    """Its standard error; None with fewer than two of either kind."""


def midranks(values: Floats) -> Floats:
    """(n,) places from 1 on, ascending; those that are equal share the mean of theirs."""
    _, at, n = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(n) - (n - 1) / 2)[at], dtype=np.float64)


def auroc(scores: Floats, wrong: Flags) -> Auroc | None:
    """scores, wrong: (n,). None where all are wrong, or all right."""
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if not n_wrong or not n_right:
        return None
    among = midranks(scores)
    # How many of the other kind lie below each one that is wrong, and above each one that is right, as shares.
    below = (among[wrong] - midranks(scores[wrong])) / n_right
    above = 1 - (among[~wrong] - midranks(scores[~wrong])) / n_wrong
    error = None
    if min(n_wrong, n_right) > 1:
        error = float(np.sqrt(below.var(ddof=1) / n_wrong + above.var(ddof=1) / n_right))
    return Auroc(float(below.mean()), error)


class Rejection(NamedTuple):
    """What is right of those that are kept, while the least certain are taken away one by one."""

    accuracy: Floats
    """(n,) of the most certain one, of the most certain two, ... of all."""
    area: float
    """Their mean."""
    random: float
    """The same of a random order: what is right of all."""
    perfect: float
    """The same of an order that has all that are wrong last."""

    @property
    def ratio(self) -> float | None:
        """How much of the way from a random order to a perfect one, the prediction rejection ratio: 1 is perfect, 0
        random, below 0 worse. None where both are the same."""
        room = self.perfect - self.random
        return (self.area - self.random) / room if room > 0 else None


def rejection(scores: Floats, wrong: Flags) -> Rejection:
    """scores, wrong: (n,), n at least 1. Of those that tie the order is nothing: each counts by the mean of them."""
    values, at, n = np.unique(scores, return_inverse=True, return_counts=True)
    right = (~wrong).astype(float)
    shares = (np.bincount(at, right, len(values)) / n)[at]
    kept = np.arange(1, len(scores) + 1)
    accuracy = np.cumsum(shares[np.argsort(scores, kind="stable")]) / kept
    perfect = np.minimum(right.sum() / kept, 1.0)
    return Rejection(accuracy, float(accuracy.mean()), float(right.mean()), float(perfect.mean()))
