"""The sampling chain by the second ways of its stages, over the whole vocabulary in float64.

Each stage is told what the one before it left. Where tokens lie so near to the edge of a stage that float32 may put
them on its other side, the step after it is in doubt, and so is all that follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tui_entropy.engine.verify.second import noise
from tui_entropy.engine.verify.second.belief import Floats, entropy, log_softmax
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.registry import BY_NAME, ORDERS, STAGE_KNOBS, STAGES
from tui_entropy.stages.stage import CLOSE

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Before:
    """The inputs of the stages beside the logits (ExactPast of stages/inputs.py)."""

    prompt: tuple[int, ...]
    written: tuple[int, ...]
    position: int
    mu: float | None = None
    """Bits; None where a text begins."""
    breakers: frozenset[int] = frozenset()
    banned: frozenset[int] = frozenset()
    only: tuple[str, int] | None = None
    """A last stage by this name that leaves this token alone."""

    def newest(self, n: int) -> tuple[int, ...]:
        """Ids of prompt and text, all of them where n is 0."""
        return (self.prompt + self.written)[-n:]

    def number(self, seed: int) -> float:
        """The uniform number of the step."""
        return noise.of_step(seed, self.position)


@dataclass(frozen=True)
class Left:
    """The result of one stage (ExactRow of stages/inputs.py)."""

    stage: str
    scores: Floats
    """(vocab,), -inf for what is gone."""
    mass: float
    """What the survivors had of the distribution before."""
    doubtful: bool

    @cached_property
    def logp(self) -> Floats:
        return log_softmax(self.scores)

    @cached_property
    def p(self) -> Floats:
        return np.exp(self.logp)

    @property
    def alive(self) -> Bools:
        return self.scores > -np.inf

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self.scores))

    @property
    def survivors(self) -> int:
        return int(self.alive.sum())

    @property
    def entropy(self) -> float:
        return entropy(self.logp)

    def nearest(self, values: Floats, edge: float) -> float:
        """The smallest distance from an edge, as CLOSE is."""
        apart = np.abs(values[values > -np.inf] - edge) / max(1.0, abs(edge))
        return float(apart.min(initial=math.inf))


def chain(logits: npt.ArrayLike, knobs: Knobs, before: Before) -> list[Left]:
    """The logits as they are, by the name '', and what each stage that acts left."""
    left = [Left("", np.asarray(logits, dtype=np.float64), 1.0, False)]
    if before.banned and (kept := _without_banned(left[0].scores, before.banned)).any():
        left.append(_narrow(left[-1], "banned", kept, math.inf))
    for stage in acting(knobs):
        found = BY_NAME[stage].check(left[-1], before, *_values(stage, knobs))
        if isinstance(found, tuple):
            left.append(_narrow(left[-1], stage, *found))
        else:
            left.append(Left(stage, found, 1.0, left[-1].doubtful))
    if before.only:
        stage, token = before.only
        alone = np.full_like(left[0].scores, -np.inf)
        alone[token] = 0.0
        had = math.exp(left[-1].logp[token]) if left[-1].scores[token] > -np.inf else 0.0
        left.append(Left(stage, alone, had, left[-1].doubtful))
    return left


def acting(knobs: Knobs) -> list[str]:
    """The stages that are on, in the order that is set. At temperature 0 those that only remove are not."""
    acts = []
    for name in knobs.order:
        stage, values = BY_NAME[name], _values(name, knobs)
        on = stage.check_acts(*values) if stage.check_acts else values[0] != stage.knobs[0].off
        if on and not (knobs.temperature < 1e-3 and stage.rescore is None):
            acts.append(name)
    return acts


def _values(name: str, knobs: Knobs) -> list[Any]:
    """The knobs that a stage is given. Under one that runs alone all but its own and those beside it are off."""
    values = {given: getattr(knobs, given) for given in BY_NAME[name].given}
    for alone in STAGES:
        if knobs.order == ORDERS.get(alone.alone_in) and getattr(knobs, alone.name) != alone.knobs[0].off:
            passed_over = set(values) - {alone.name, *alone.beside}
            off = {knob.name: knob.off for knob in STAGE_KNOBS if knob.off is not None}
            values |= {given: off[given] for given in passed_over & set(off)}
    return list(values.values())


def next_mu(mu: float, knobs: Knobs, final_prob: float) -> float:
    """Mirostat v2's bound in bits after a token of this final probability."""
    return mu + knobs.mirostat_eta * (knobs.mirostat_tau + math.log2(final_prob))


def _without_banned(scores: Floats, banned: frozenset[int]) -> Bools:
    kept = scores > -np.inf
    kept[[token for token in banned if token < len(scores)]] = False
    return kept


def _narrow(before: Left, stage: str, kept: Bools, distance: float) -> Left:
    mass = float(np.exp(before.logp[kept]).sum())
    scores = np.where(kept, before.scores, -np.inf)
    return Left(stage, scores, mass, before.doubtful or distance < CLOSE)
