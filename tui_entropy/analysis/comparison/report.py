"""What a comparison comes to: how far apart two models are, at how many tokens."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from tui_entropy.engine.scoring.comparison import NUMBERS

PERCENTILES = (1, 5, 50, 95, 99)


class Spread(Struct, frozen=True):
    """A number of each token, over all of them. Nats where it is information."""

    name: str
    unit: str
    mean: float
    mean_error: float
    """Of the mean, as of independent tokens."""
    rms: float
    percentiles: tuple[float, ...]
    """At PERCENTILES."""
    least: float
    most: float


class ComparisonReport(Struct, frozen=True):
    a: str
    b: str
    n: int
    """Tokens."""
    same_top: float
    """The share of tokens of which both hold the same one for most probable."""
    same_top_error: float
    """Its standard error."""
    perplexity_a: float
    perplexity_b: float
    spreads: tuple[Spread, ...]


def report_of(
    names: tuple[str, str], numbers: npt.NDArray[np.float64], ids: npt.NDArray[np.int64]
) -> ComparisonReport:
    """numbers: (n, len(NUMBERS)); ids: (n, 2, k) the most probable tokens of both."""
    n = len(numbers)
    of = dict(zip(NUMBERS, numbers.T, strict=True))
    same = float((ids[:, 0, 0] == ids[:, 1, 0]).mean())
    return ComparisonReport(
        a=names[0],
        b=names[1],
        n=n,
        same_top=same,
        same_top_error=math.sqrt(same * (1 - same) / n),
        perplexity_a=math.exp(min(float(of["surprisal_a"].mean()), 700)),
        perplexity_b=math.exp(min(float(of["surprisal_b"].mean()), 700)),
        spreads=(
            spread("KL of B from A", "nats", of["kl"]),
            spread("surprisal, B less A", "nats", of["surprisal_b"] - of["surprisal_a"]),
            spread("probability of what came, B less A", "share", of["p_b"] - of["p_a"]),
            spread("entropy, B less A", "nats", of["entropy_b"] - of["entropy_a"]),
            spread("surprisal of A", "nats", of["surprisal_a"]),
            spread("surprisal of B", "nats", of["surprisal_b"]),
        ),
    )


def spread(name: str, unit: str, values: npt.NDArray[np.float64]) -> Spread:
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    at = tuple(float(value) for value in np.percentile(values, PERCENTILES))
    rms = float(np.sqrt(np.square(values).mean()))
    return Spread(name, unit, float(values.mean()), error, rms, at, float(values.min()), float(values.max()))
