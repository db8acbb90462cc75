"""The sampling chain from the definitions of its stages, over the whole vocabulary in float64.

Each stage is told what the one before it left. Where tokens lie so near to the edge of a stage that float32 may put
them on its other side, the step after it is in doubt, and so is all that follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tui_entropy.engine.verify.second import noise
from tui_entropy.engine.verify.second.belief import Floats, entropy, log_softmax
from tui_entropy.records.sampling import ORDERS, Knobs

CLOSE = 2e-5
"""How near to the edge of a stage float32 may decide otherwise, as a share of the edge, or of 1 if it is smaller."""
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Before:
    """The inputs of the stages beside the logits."""

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


@dataclass(frozen=True)
class Left:
    """The result of one stage."""

    stage: str
    scores: Floats
    """(vocab,), -inf for what is gone."""
    mass: float
    """What the survivors had of the distribution before."""
    doubtful: bool

    @cached_property
    def logp(self) -> Floats:
        return log_softmax(self.scores)

    @property
    def survivors(self) -> int:
        return int((self.scores > -np.inf).sum())

    @property
    def entropy(self) -> float:
        return entropy(self.logp)


def chain(logits: npt.ArrayLike, knobs: Knobs, before: Before) -> list[Left]:
    """The logits as they are, by the name '', and what each stage that acts left."""
    left = [Left("", np.asarray(logits, dtype=np.float64), 1.0, False)]
    if before.banned and (kept := _without_banned(left[0].scores, before.banned)).any():
        left.append(_narrow(left[-1], "banned", kept, math.inf))
    for stage in acting(knobs):
        if stage in RESCORED and not (stage == "temperature" and knobs.temperature < 1e-3):
            scores = RESCORED[stage](left[-1].scores, knobs, before)
            left.append(Left(stage, scores, 1.0, left[-1].doubtful))
        else:
            kept, distance = KEPT[stage](left[-1].scores, knobs, before)
            left.append(_narrow(left[-1], stage, kept, distance))
    if before.only:
        stage, token = before.only
        alone = np.full_like(left[0].scores, -np.inf)
        alone[token] = 0.0
        had = math.exp(left[-1].logp[token]) if left[-1].scores[token] > -np.inf else 0.0
        left.append(Left(stage, alone, had, left[-1].doubtful))
    return left


def acting(knobs: Knobs) -> list[str]:
    """The stages that are on, in the order that is set."""
    greedy = knobs.temperature < 1e-3
    plain = knobs.mirostat_tau > 0 and knobs.order == ORDERS["llama.cpp"]  # llama.cpp runs little before mirostat
    on = {
        "repetition_penalty": knobs.repetition_penalty != 1,
        "frequency_penalty": knobs.frequency_penalty != 0,
        "presence_penalty": knobs.presence_penalty != 0,
        "dry_multiplier": knobs.dry_multiplier > 0,
        "temperature": knobs.temperature != 1 or (knobs.dynatemp_range > 0 and not plain),
        "top_k": knobs.top_k > 0,
        "top_p": knobs.top_p < 1,
        "min_p": knobs.min_p > 0,
        "typical_p": knobs.typical_p < 1,
        "top_n_sigma": knobs.top_n_sigma > 0,
        "xtc_probability": knobs.xtc_probability > 0 and knobs.xtc_threshold <= 0.5,
        "mirostat_tau": knobs.mirostat_tau > 0,
    }
    if greedy:
        on |= dict.fromkeys(set(on) - set(RESCORED), False)
    if plain:
        on |= dict.fromkeys(set(on) - {"temperature", "mirostat_tau"}, False)
    return [stage for stage in knobs.order if on[stage]]


def next_mu(mu: float, knobs: Knobs, final_prob: float) -> float:
    """Mirostat v2's bound in bits after a token of this final probability."""
    return mu + knobs.mirostat_eta * (knobs.mirostat_tau + math.log2(final_prob))


# --- Stages that change scores -------------------------------------------------------------------------------------


def _repetition(scores: Floats, knobs: Knobs, before: Before) -> Floats:
    changed, penalty = scores.copy(), knobs.repetition_penalty
    for token in set(before.newest(knobs.penalty_last_n)):
        changed[token] *= penalty if scores[token] < 0 else 1 / penalty
    return changed


def _penalized_tokens(knobs: Knobs, before: Before) -> tuple[int, ...]:
    return before.newest(knobs.penalty_last_n) if knobs.penalty_last_n else before.written


def _frequency(scores: Floats, knobs: Knobs, before: Before) -> Floats:
    changed = scores.copy()
    for token in _penalized_tokens(knobs, before):
        changed[token] -= knobs.frequency_penalty
    return changed


def _presence(scores: Floats, knobs: Knobs, before: Before) -> Floats:
    changed = scores.copy()
    for token in set(_penalized_tokens(knobs, before)):
        changed[token] -= knobs.presence_penalty
    return changed


def _dry(scores: Floats, knobs: Knobs, before: Before) -> Floats:
    """Every place in the context is compared with its end, token by token backwards."""
    context, changed = before.newest(knobs.penalty_last_n), scores.copy()
    longest: dict[int, int] = {}
    for place in range(1, len(context)):
        length = 0
        while length < place and context[place - 1 - length] == context[-1 - length] not in before.breakers:
            length += 1
        longest[context[place]] = max(longest.get(context[place], 0), length)
    for token, length in longest.items():
        if length >= max(knobs.dry_allowed_length, 1) and token not in before.breakers:
            beyond = (length - knobs.dry_allowed_length) * math.log(knobs.dry_base)
            changed[token] -= min(knobs.dry_multiplier * math.exp(min(beyond, math.log(1e30))), 1e30)
    return changed


def _heat(scores: Floats, knobs: Knobs, before: Before) -> Floats:
    heat = knobs.temperature
    plain = knobs.mirostat_tau > 0 and knobs.order == ORDERS["llama.cpp"]
    if knobs.dynatemp_range > 0 and not plain:
        n = int((scores > -np.inf).sum())
        share = min(max(entropy(log_softmax(scores)) / math.log(n), 0.0), 1.0) if n > 1 else 0.0
        least, most = max(heat - knobs.dynatemp_range, 0.0), heat + knobs.dynatemp_range
        heat = max(least + (most - least) * share**knobs.dynatemp_exponent, 1e-3)
    return scores / heat


RESCORED: dict[str, Callable[[Floats, Knobs, Before], Floats]] = {
    "repetition_penalty": _repetition,
    "frequency_penalty": _frequency,
    "presence_penalty": _presence,
    "dry_multiplier": _dry,
    "temperature": _heat,
}


# --- Stages that remove tokens: which are left, and how near the nearest is to the edge ----------------------------


def _greedy(scores: Floats, knobs: Knobs, before: Before) -> tuple[Bools, float]:
    best = int(scores.argmax())
    return np.arange(len(scores)) == best, _nearest(np.delete(scores, best), scores[best])


def _top_k(scores: Floats, knobs: Knobs, before: Before) -> tuple[Bools, float]:
    edge = np.sort(scores)[-min(knobs.top_k, int((scores > -np.inf).sum()))]
    return scores >= edge, _nearest(scores[scores != edge], edge)


def _top_p(scores: Floats, knobs: Knobs, before: Before) -> tuple[Bools, float]:
    """The likeliest tokens, each of which is needed for those before it to reach p."""
    order = np.argsort(-scores, kind="stable")
    p = np.exp(log_softmax(scores))[order]
    so_far = np.cumsum(p) - p
    n = max(int((so_far < knobs.top_p).sum()), 1)
    kept = np.zeros(len(scores), dtype=bool)
    kept[order[:n]] = True
    tie = n < len(order) and scores[order[n - 1]] == scores[order[n]] > -np.inf
    return kept & (scores > -np.inf), 0.0 if tie else _nearest(so_far[p > CLOSE], knobs.top_p)


def _min_p(scores: Floats, knobs: Knobs, before: Before) -> tuple[Bools, float]:
    edge = scores.max() + math.log(knobs.min_p)
    return scores >= edge, _nearest(scores, edge)


def _typical(scores: Floats, knobs: Knobs, before: Before) -> tuple[Bools, float]:
    """Typical sampling: the tokens whose surprisal is nearest to its mean, as many as reach the mass together."""
    logp = log_softmax(scores)
    off = np.abs(-logp - entropy(logp))
    order = np.argsort(off, kind="stable")
    so_far = np.cumsum(np.exp(logp)[order])
    last = order[min(int((so_far < knobs.typical_p).sum()), len(order) - 1)]
    kept = (off <= off[last]) & (scores > -np.inf)
    others = np.delete(off, last)
    return kept, min(_nearest(others, off[last]), _nearest(so_far, knobs.typical_p))


def _top_n_sigma(scores: Floats, knobs: Knobs, before: Before) -> tuple[Bools, float]:
    edge = scores.max() - knobs.top_n_sigma * scores[scores > -np.inf].std()
    return scores >= edge, _nearest(scores, edge)


def _xtc(scores: Floats, knobs: Knobs, before: Before) -> tuple[Bools, float]:
    """By the uniform number of the step: of the likely tokens only the least likely one is left."""
    alive = scores > -np.inf
    if noise.of_step(knobs.seed, before.position) >= knobs.xtc_probability:
        return alive, math.inf
    p = np.exp(log_softmax(scores))
    likely = np.flatnonzero(alive & (p >= knobs.xtc_threshold))
    kept = alive.copy()
    kept[likely] = False
    distance = _nearest(p, knobs.xtc_threshold)
    if len(likely):
        least = likely[p[likely].argmin()]
        kept[least] = True
        distance = min(distance, _nearest(scores[likely[likely != least]], scores[least]))
    return kept, distance


def _mirostat(scores: Floats, knobs: Knobs, before: Before) -> tuple[Bools, float]:
    """Mirostat 2: the tokens of a surprisal up to mu bits, and the best in any case."""
    bits = -log_softmax(scores) / math.log(2)
    mu = 2 * knobs.mirostat_tau if before.mu is None else before.mu
    return (bits <= mu) | (np.arange(len(scores)) == scores.argmax()), _nearest(bits, mu)


KEPT: dict[str, Callable[[Floats, Knobs, Before], tuple[Bools, float]]] = {
    "temperature": _greedy,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical_p": _typical,
    "top_n_sigma": _top_n_sigma,
    "xtc_probability": _xtc,
    "mirostat_tau": _mirostat,
}


def _nearest(values: Floats, edge: float) -> float:
    """The smallest distance from an edge, as CLOSE is."""
    apart = np.abs(values[values > -np.inf] - edge) / max(1.0, abs(edge))
    return float(apart.min(initial=math.inf))


def _without_banned(scores: Floats, banned: frozenset[int]) -> Bools:
    kept = scores > -np.inf
    kept[[token for token in banned if token < len(scores)]] = False
    return kept


def _narrow(before: Left, stage: str, kept: Bools, distance: float) -> Left:
    mass = float(np.exp(before.logp[kept]).sum())
    scores = np.where(kept, before.scores, -np.inf)
    return Left(stage, scores, mass, before.doubtful or distance < CLOSE)
