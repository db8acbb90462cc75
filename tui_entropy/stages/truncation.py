"""Stages that keep the likeliest tokens by one rule or another. The first four have the rule of transformers' own
processors, top-n-sigma has llama.cpp's (llama_sampler_top_n_sigma)."""

from __future__ import annotations

import math
from typing import Any

from tui_entropy.stages.inputs import ExactPast, ExactRow, Past, Row
from tui_entropy.stages.stage import CLOSE, SHARES, Knob, Stage, on_device, rungs


def _top_k(row: Row, past: Past, k: Any) -> Any:
    scores = row.scores
    if on_device(k):  # to index by it would look at it
        edge = scores.sort(descending=True).values.gather(0, (k.long() - 1).clamp(max=len(scores) - 1).view(1))
    else:
        edge = scores.topk(min(int(k), len(scores))).values[-1:]
    return scores >= edge


def _check_top_k(row: ExactRow, past: ExactPast, k: int) -> Any:
    edge = row.scores[row.scores.argsort()[-min(k, row.survivors)]]
    return row.scores >= edge, row.nearest(row.scores[row.scores != edge], edge)


def _top_p(row: Row, past: Past, p: Any) -> Any:
    """Tokens so improbable that all of them together would go in any case need not be sorted, which takes
    milliseconds for a whole vocabulary on a CPU.

    With a mass `tail` left out, a share p of the whole is a share p / (1 - tail) of the rest. Where the edge falls
    among equal scores, as many of them survive as in the whole row; which ones is up to the sort there as here.
    """
    if not row.narrows:
        return _least_prefix(row.scores, p)
    probs = row.scores.softmax(-1)
    likely = row.above(probs, (1 - p) / (2 * len(probs)))
    kept = row.scores == math.inf
    kept[likely] = _least_prefix(row.scores[likely], p / (1 - float(probs.index_fill_(0, likely, 0).sum())))
    return kept


def _least_prefix(scores: Any, p: Any) -> Any:
    """The fewest of the best that have this probability together."""
    ordered, order = scores.sort()
    kept = ordered.softmax(-1).cumsum(-1) > 1 - p
    kept[-1:] = True
    return kept.scatter(0, order, kept)


def _check_top_p(row: ExactRow, past: ExactPast, top_p: float) -> Any:
    """The likeliest tokens, each of which is needed for those before it to reach p."""
    order = (-row.scores).argsort(kind="stable")
    p = row.p[order]
    so_far = p.cumsum() - p
    n = max(int((so_far < top_p).sum()), 1)
    kept = row.ids < 0
    kept[order[:n]] = True
    tie = n < len(order) and row.scores[order[n - 1]] == row.scores[order[n]] > -math.inf
    return kept & row.alive, 0.0 if tie else row.nearest(so_far[p > CLOSE], top_p)


def _typical(row: Row, past: Past, mass: Any) -> Any:
    """The tokens whose surprisal is nearest to its mean, as many as reach the mass together."""
    logp = row.scores.log_softmax(-1)
    distance = (-logp + (logp * logp.exp()).nansum(-1)).abs()
    nearest, order = distance.sort()
    together = row.scores[order].softmax(-1).cumsum(-1)
    return distance <= nearest.gather(0, (together < mass).sum().clamp(max=len(order) - 1).view(1))


def _check_typical(row: ExactRow, past: ExactPast, mass: float) -> Any:
    off = abs(-row.logp - row.entropy)
    order = off.argsort(kind="stable")
    so_far = row.p[order].cumsum()
    last = order[min(int((so_far < mass).sum()), len(order) - 1)]
    distance = min(row.nearest(off[row.ids != last], off[last]), row.nearest(so_far, mass))
    return (off <= off[last]) & row.alive, distance


def _top_n_sigma(row: Row, past: Past, n: Any) -> Any:
    """Scores within n population standard deviations, over what is left, of the best."""
    scores, alive = row.scores, row.alive
    count = alive.sum()
    mean = scores.where(alive, 0).sum() / count
    variance = (scores - mean).where(alive, 0).square().sum() / count
    return scores >= scores.max() - n * variance.sqrt()


def _above(row: ExactRow, edge: float) -> Any:
    return row.scores >= edge, row.nearest(row.scores, edge)


TRUNCATION = (
    Stage(
        (Knob(
            "top_k", "top-k", "Keeps this many of the most probable tokens. 0 is off.", 40, 0, high=10**7,
            rungs=(1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200, 500, 0),
        ),),
        places=(6, 6, 7), keep=_top_k, check=_check_top_k, example={"top_k": 5}, in_graph=True,
    ),
    Stage(
        (Knob(
            "top_p", "top-p", "Keeps the fewest tokens that together have this probability. 1 is off.", 0.95, 1.0,
            high=1, above=True, rungs=SHARES,
        ),),
        places=(7, 8, 8), keep=_top_p, check=_check_top_p, example={"top_p": 0.6}, in_graph=True,
    ),
    Stage(
        (Knob(
            "min_p", "min-p", "Keeps tokens with this share of the most probable one's probability. 0 is off.",
            0.0, 0.0, high=1, rungs=(0.0, 0.005, 0.01, 0.02, 0.03, *rungs(0.05, 0.5, 0.05)), cost=0.4,
        ),),
        places=(8, 9, 6), example={"min_p": 0.1}, in_graph=True,
        keep=lambda row, past, share: (p := row.scores.softmax(-1)) >= share * p.amax(),
        check=lambda row, past, share: _above(row, row.scores.max() + math.log(share)),
    ),
    Stage(
        (Knob(
            "typical_p", "typical-p", "Keeps the tokens of most typical surprisal up to this probability. 1 is off.",
            1.0, 1.0, high=1, above=True, rungs=SHARES, cost=0.7,
        ),),
        places=(9, 7, 9), keep=_typical, check=_check_typical, example={"typical_p": 0.6}, in_graph=True,
    ),
    Stage(
        (Knob(
            "top_n_sigma", "top-nσ", "Keeps scores within so many standard deviations of the best. 0 is off.",
            0.0, 0.0, high=1000, rungs=(*rungs(0.25, 3.0, 0.25), 0.0), cost=0.5,
        ),),
        places=(10, 5, 10), keep=_top_n_sigma, example={"top_n_sigma": 1.0}, in_graph=True,
        check=lambda row, past, n: _above(row, row.scores.max() - n * row.scores[row.alive].std()),
    ),
)  # fmt: skip
