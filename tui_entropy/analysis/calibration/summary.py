"""What the calibration of a model comes to: its errors with an interval, bin by bin, as it is and under the
temperature that was fitted on one half and tried on the other."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from tui_entropy.analysis.calibration.measures import MIN_PAIRS, bins, bootstrap, errors
from tui_entropy.analysis.calibration.pairs import Pairs

MIN_GROUPS = 20
"""Fewer texts cannot stand for all texts, so their tokens are drawn one by one."""
TRUE_LABEL = (
    "The probability of the true token in place of the confidence: above one half it is right by construction and "
    "below never, so this diagram is bent whatever the model is. It tells likelihood and no calibration."
)


class BinSummary(Struct, frozen=True):
    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None
    """Both None where no pair is in it."""


class Calibration(Struct, frozen=True):
    """A set of pairs, judged."""

    name: str
    n: int
    n_groups: int
    accuracy: float
    confidence: float
    """Both means."""
    nll_nats: float
    """The mean surprisal of what was right."""
    brier: float
    """Over all classes, 0 ... 2."""
    top_label_brier: float
    gap: float
    """Mean confidence minus accuracy: above 0 is too sure."""
    ece: float | None
    mce: float | None
    adaptive_ece: float | None
    """These are None with fewer than MIN_PAIRS pairs, where they say next to nothing."""
    ece_interval: Annotated[tuple[float, ...], Meta(max_length=2)]
    """95 %, by bootstrap; empty where there is no ece."""
    drawn: str
    """What was drawn with replacement for it: 'texts', 'tokens' or 'questions'."""
    bins: tuple[BinSummary, ...]
    note: str = ""


def calibration(name: str, pairs: Pairs, n_bins: int, one: str, note: str = "", seed: int = 0) -> Calibration:
    """one: what a pair is about, 'token' or 'question'."""
    found = errors(pairs.confidence, pairs.correct, n_bins)
    enough = len(pairs) >= MIN_PAIRS
    n_groups = len(np.unique(pairs.groups))
    whole = one == "token" and n_groups >= MIN_GROUPS
    groups = np.unique(pairs.groups, return_inverse=True)[1] if whole else np.arange(len(pairs))
    interval: tuple[float, ...] = ()
    if enough:
        interval = bootstrap(lambda at: errors(pairs.confidence[at], pairs.correct[at], n_bins).ece, groups, seed)
    return Calibration(
        name=name,
        n=len(pairs),
        n_groups=n_groups,
        accuracy=float(pairs.correct.mean()),
        confidence=float(pairs.confidence.mean()),
        nll_nats=float(pairs.surprisal.mean()),
        brier=float(pairs.brier.mean()),
        top_label_brier=found.brier,
        gap=found.gap,
        ece=found.ece if enough else None,
        mce=found.mce if enough else None,
        adaptive_ece=found.adaptive_ece if enough else None,
        ece_interval=interval,
        drawn="texts" if whole else f"{one}s",
        bins=tuple(
            BinSummary(each.low, each.high, each.n, *(each.confidence, each.accuracy) if each.n else (None, None))
            for each in bins(pairs.confidence, pairs.correct, n_bins)
        ),
        note=note,
    )


class TemperatureSummary(Struct, frozen=True):
    """Temperature scaling: fitted on one half of the pairs, tried on the other."""

    temperature: float
    n_fitted: int
    n_tried: int
    nll_before_nats: float
    nll_after_nats: float
    """Of the half that it was tried on."""


class CalibrationReport(Struct, frozen=True):
    model: str
    of: str
    """'tokens' of texts, or 'questions'."""
    n_bins: int
    sets: tuple[Calibration, ...]
    temperatures: tuple[TemperatureSummary, ...]
    left_out: tuple[str, ...] = ()
    """Sentences on what could not be read."""
