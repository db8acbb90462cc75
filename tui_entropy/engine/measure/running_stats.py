"""Each step judged by the steps before it: the state of the model, perplexity, and blocks that left their band.

States follow the metrics guide (high is more than one standard deviation above the mean, low as far below), made
complete: the window is the newest RECENT steps without the present one, deviations are those of the population, and
mixed cases have names. They are relative to this text and no evidence of error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tui_entropy.engine.instruments.tensor_metrics import perplexity
from tui_entropy.records.step import PERPLEXITY_WINDOW, RECENT

ENOUGH = 16
"""Steps before anything is called high or low."""
CONSTANT = 1e-6
"""A standard deviation below it has nothing to be measured against."""
FENCE = 3.0
"""A block's norm is a stray beyond this many interquartile ranges outside the quartiles of its recent values: the
outer fence of Tukey 1977, which earlier strays do not move."""

Floats = npt.NDArray[np.float64]


class StepStats(NamedTuple):
    """Named as the fields of Step."""

    state: str
    entropy_z: float | None
    attention_z: float | None
    strays: tuple[int, ...]
    perplexity: float
    window_perplexity: float


class RunningStats:
    """The numbers that a run has measured so far, as far as later steps are judged by them."""

    def __init__(self) -> None:
        self.entropies: list[float] = []
        """Model, nats, per step."""
        self.varentropies: list[float] = []
        """Model, nats squared."""
        self._attention: list[float] = []
        self._norms: list[Floats] = []
        self._nll = [0.0]
        """Sum of the surprisals of the first n steps."""
        self._judged: tuple[float, float, float, float | None, Floats]

    def evaluate(
        self, entropy: float, varentropy: float, surprisal: float, attention: float | None, norms: npt.ArrayLike
    ) -> StepStats:
        """Compare a step with those before it. `commit` then counts it among them.

        entropy, surprisal: nats. attention: mean over layers and heads of entropy / ln n, None where there is none.
        norms: (n_layers,) L2 norm of the residual stream after each block.
        """
        row = np.asarray(norms, dtype=np.float64)
        entropy_z = z_score(self.entropies[-RECENT:], entropy)
        attention_z = None if attention is None else z_score(self._attention[-RECENT:], attention)
        strays = outside(self._norms[-RECENT:], row)
        self._judged = entropy, varentropy, surprisal, attention, row
        n = len(self.entropies) + 1
        window = min(n, PERPLEXITY_WINDOW)
        nll = self._nll[-1] + surprisal
        return StepStats(
            state="Unknown" if attention is None and n > ENOUGH else state(entropy_z, attention_z),
            entropy_z=entropy_z,
            attention_z=attention_z,
            strays=strays,
            perplexity=perplexity(nll / n),
            window_perplexity=perplexity((nll - self._nll[-window]) / window),
        )

    def commit(self) -> None:
        """The step that was judged last is one of those before, from now on."""
        self.count(*self._judged)

    def count(
        self, entropy: float, varentropy: float, surprisal: float, attention: float | None, row: Floats
    ) -> None:
        """A step with these numbers, as of `evaluate`, is one of those before, from now on."""
        self.entropies.append(entropy)
        self.varentropies.append(varentropy)
        self._attention += [] if attention is None else [attention]
        self._norms.append(row)
        self._nll.append(self._nll[-1] + surprisal)

    def first(self, n: int) -> RunningStats:
        """As it was after the first n steps."""
        then = RunningStats()
        then.entropies, then.varentropies = self.entropies[:n], self.varentropies[:n]
        then._attention, then._norms, then._nll = self._attention[:n], self._norms[:n], self._nll[: n + 1]
        return then


def z_score(before: Sequence[float], value: float) -> float | None:
    """Standard deviations above the mean of what came before; None while that is too little or constant."""
    if len(before) < ENOUGH:
        return None
    mean, deviation = float(np.mean(before)), float(np.std(before))
    return (value - mean) / deviation if deviation > CONSTANT else None


def state(entropy_z: float | None, attention_z: float | None) -> str:
    """One of STATES."""
    if entropy_z is None or attention_z is None:
        return "Warming up"
    high = (entropy_z > 1) + (attention_z > 1)
    low = (entropy_z < -1) + (attention_z < -1)
    if high and low:
        return "Conflicted"
    if high:
        return "Uncertain" if high == 2 else "Leaning uncertain"
    if low:
        return "Overconfident" if low == 2 else "Leaning overconfident"
    return "Confident"


def outside(before: Sequence[Floats], row: Floats) -> tuple[int, ...]:
    """Blocks (1-based) beyond the fences of their own earlier values.

    before: (n_layers,) per step; too few of them, and no block is outside.
    """
    if len(before) < ENOUGH:
        return ()
    known = np.sort(np.stack(before), 0)
    lower, upper = known[len(before) // 4], known[-1 - len(before) // 4]
    reach = np.maximum(FENCE * (upper - lower), CONSTANT * upper)
    return tuple((np.flatnonzero((row < lower - reach) | (row > upper + reach)) + 1).tolist())
