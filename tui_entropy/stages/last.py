"""Stages that look at what is left in the end: XTC, by a number of its own, and mirostat v2, by the text so far."""

from __future__ import annotations

import math
from typing import Any

from tui_entropy.stages.inputs import ExactPast, ExactRow, Past, Row
from tui_entropy.stages.stage import Knob, Stage, on_device, rungs


def _xtc(row: Row, past: Past, probability: Any, likely: Any, seed: int) -> Any:
    """Remove all tokens that reach the threshold but the least probable. Source: llama.cpp, llama_sampler_xtc."""
    number = past.number(seed)
    if not on_device(number) and number >= probability:
        return row.alive
    p = row.logp.exp()
    above = (p >= likely) & row.alive
    least = p.where(above, math.inf).argmin(keepdim=True)
    kept = ~above.scatter(0, least, False)
    return kept | (number >= probability) if on_device(number) else kept


def _check_xtc(row: ExactRow, past: ExactPast, probability: float, threshold: float, seed: int) -> Any:
    """Keep of the likely tokens only the least likely one, if the uniform number of the step says so."""
    kept = row.alive.copy()
    if past.number(seed) >= probability:
        return kept, math.inf
    (likely,) = (kept & (row.p >= threshold)).nonzero()
    kept[likely] = False
    distance = row.nearest(row.p, threshold)
    if len(likely):
        least = likely[row.p[likely].argmin()]
        kept[least] = True
        distance = min(distance, row.nearest(row.scores[likely[likely != least]], row.scores[least]))
    return kept, distance


def _mirostat(row: Row, past: Past, tau: Any, eta: object) -> Any:
    """Keep tokens of a surprisal up to mu bits. The bound begins at 2 tau, and eta moves it from step to step."""
    mu = 2 * tau if past.mu is None else past.mu
    return row.best(row.logp) | (row.logp >= -mu * math.log(2))


def _check_mirostat(row: ExactRow, past: ExactPast, tau: float, eta: object) -> Any:
    """Keep the tokens of a surprisal up to mu bits, and the best in any case."""
    bits = -row.logp / math.log(2)
    bound = 2 * tau if past.mu is None else past.mu
    return (bits <= bound) | (row.ids == row.scores.argmax()), row.nearest(bits, bound)


LAST = (
    Stage(
        (
            Knob(
                "xtc_probability", "XTC", "How often all likely tokens but the least likely of them go. 0 is off.",
                0.0, 0.0, high=1, rungs=rungs(0.0, 1.0, 0.1), cost=0.7,
            ),
            Knob(
                "xtc_threshold", "XTC-threshold",
                "Probability from which XTC calls a token likely. Above 0.5 XTC is off.",
                0.1, high=1, rungs=(0.01, 0.02, *rungs(0.05, 0.5, 0.05)), needs=("xtc_probability",),
            ),
        ),
        places=(11, 10, 11), keep=_xtc, check=_check_xtc, also=("seed",), in_graph=True,
        example={"xtc_probability": 0.5},
        acts=lambda probability, threshold, seed: probability != 0 and threshold <= 0.5,
        check_acts=lambda probability, threshold, seed: not (probability == 0 or threshold > 1 / 2),
    ),
    Stage(
        (
            Knob(
                "mirostat_tau", "mirostat", "Surprisal in bits that mirostat v2 holds the text at. 0 is off.",
                0.0, 0.0, high=100, rungs=rungs(0.0, 10.0, 0.5), cost=0.4,
            ),
            Knob(
                "mirostat_eta", "mirostat-eta", "How fast mirostat corrects itself.",
                0.1, high=1, above=True, rungs=(0.01, 0.02, 0.05, *rungs(0.1, 1.0, 0.1)), needs=("mirostat_tau",),
            ),
        ),
        places=(12, 12, 12), keep=_mirostat, check=_check_mirostat, in_graph=True,
        alone_in="llama.cpp", beside=("temperature",), example={"mirostat_tau": 3.0},
    ),
)  # fmt: skip
"""XTC's number is a function of the seed and of the step. llama.cpp runs nothing before mirostat but a plain
temperature."""
