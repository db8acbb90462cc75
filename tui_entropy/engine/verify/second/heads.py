"""Attention rows and residual streams summed up, in float64."""

from __future__ import annotations

import numpy as np

from tui_entropy.engine.verify.second.belief import Floats


def shares(weights: Floats) -> Floats:
    """(heads, keys) rows -> the same as shares of what the keys get, which with a sink is less than 1."""
    parts: Floats = weights / weights.sum(-1, keepdims=True)
    return parts


def entropies(rows: Floats) -> Floats:
    """(heads, keys) -> (heads,) nats."""
    logs = np.log(np.where(rows > 0, rows, 1))
    return np.asarray(-(rows * logs).sum(-1))


def varentropies(rows: Floats) -> Floats:
    """(heads, keys) -> (heads,) nats squared."""
    logs = np.log(np.where(rows > 0, rows, 1))
    return np.asarray((rows * logs**2).sum(-1) - (rows * logs).sum(-1) ** 2)


def spread(rows: Floats) -> float:
    """Population variance of the heads' entropies: the mean square less the square of the mean."""
    each = entropies(rows)
    return float((each**2).mean() - each.mean() ** 2)


def disagreement(rows: Floats) -> float:
    """Mean total variation to the mean row: by how much weight a head exceeds it, which is half the distance."""
    return float(np.maximum(rows - rows.mean(0), 0).sum(-1).mean())


def interaction(scores: Floats) -> float:
    """(heads, visible keys) scores before the softmax -> mean size."""
    return float(np.abs(scores).sum() / scores.size)


def normalised(rows: Floats, n_keys: int) -> Floats:
    """(heads,) entropy / ln n; NaN for fewer than two keys."""
    return entropies(rows) / np.log(n_keys) if n_keys > 1 else np.full(len(rows), np.nan)


def block_stats(vector: Floats) -> tuple[float, float, float]:
    """(d_model,) -> mean, population standard deviation, L2 norm."""
    mean = vector.sum() / vector.size
    variance = (vector**2).sum() / vector.size - mean**2
    return float(mean), float(max(variance, 0.0) ** 0.5), float((vector**2).sum() ** 0.5)
