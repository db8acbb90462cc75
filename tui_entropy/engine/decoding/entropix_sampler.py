"""The Entropix samplers: knobs that change at each step with the quadrant that the model is in.

Rules and numbers are those of the source (github xjdr-alt/entropix, S1: commit 9702669, S3: commit 9d41be6), in bits
as there, with these differences: the knobs that a person has set are the base that is changed; attention is measured
over visible keys only; the clarifying token is the person's own and never written twice in a row; and the best of
several draws is the one the model finds most probable, which is all that the source's score comes to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from msgspec.structs import replace

from tui_entropy.engine.measure.running_stats import RunningStats
from tui_entropy.engine.measure.step_record import Numbers
from tui_entropy.metrics.entropix import LN2, THRESHOLDS, Thresholds, own_thresholds, quadrant
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import RECENT, Decision

ASK = "write the clarifier"
DRAWS = 5
"""Of which the most probable is taken in the quadrant 'adaptive'."""
SEEN = ("entropy", "varentropy", "attention_entropy", "attention_varentropy", "agreement", "interaction")
"""What a decision reads: the model's belief, and the last layer's attention as Entropix sums it up. Nats."""


def decide(knobs: Knobs, seen: Mapping[str, float], recent: RunningStats, may_ask: bool) -> Decision:
    """The decision at a step. seen: of SEEN what is known. may_ask: the clarifier is one token, not just written."""
    variant = knobs.adaptive
    if variant == "own":
        at = own_thresholds(recent.entropies[-RECENT:], recent.varentropies[-RECENT:])
    else:
        at = THRESHOLDS[variant]
    if at is None:
        return Decision(variant, "warming up", "knobs as set", dict(seen), knobs)
    where = quadrant(
        at, seen["entropy"], seen["varentropy"], seen.get("attention_entropy"), seen.get("attention_varentropy")
    )
    acting = _third(where, knobs, seen) if variant == "S3" else _first(where, knobs, seen)
    saw = dict(seen) | _numbers(at)
    if where == "asking" and may_ask:
        return Decision(variant, where, ASK, saw, knobs)
    if where == "flowing":
        return Decision(variant, where, "take the most probable", saw, acting)
    best = f"best of {DRAWS} draws" if where == "adaptive" else ""
    return Decision(variant, where, ", ".join(filter(None, (_changes(knobs, acting), best))) or "as set", saw, acting)


def decision_inputs(numbers: Numbers, visible_keys: Sequence[int | None]) -> dict[str, float]:
    """The inputs of a decision, of the numbers of `step_record.model_metrics` on the host. Attention is that of the
    last layer that has it, over its visible keys; without any it is left out."""
    known = {"entropy": float(numbers["entropy"][0]), "varentropy": float(numbers["varentropy"][0])}
    n_layers = len(visible_keys)
    heads = numbers["head_entropy"].reshape(n_layers, -1)
    layers = np.flatnonzero(~np.isnan(heads[:, 0]))
    if not len(layers):
        return known
    last = layers[-1]
    spread, disagreement, interaction = numbers["attention"].reshape(n_layers, -1)[last].tolist()
    return known | {
        "attention_entropy": float(heads[last].mean()),
        "attention_varentropy": spread,
        "agreement": 2 * disagreement / (visible_keys[last] or 1),
        "interaction": interaction,
    }


def asks(decision: Decision | None) -> bool:
    return decision is not None and decision.action == ASK


def draws(decision: Decision | None) -> int:
    """The number of tokens to draw, of which the most probable counts."""
    return DRAWS if decision is not None and decision.quadrant == "adaptive" else 1


def _first(where: str, knobs: Knobs, seen: Mapping[str, float]) -> Knobs:
    """S1."""
    entropy, varentropy, attention, spread, disagreement, interaction = _in_bits(seen)
    heat, top_k, top_p = knobs.temperature, knobs.top_k, knobs.top_p
    match where:
        case "flowing":
            return replace(knobs, temperature=0.0)
        case "asking":
            return replace(knobs, temperature=min(1.5, heat * (1.3 + 0.2 * attention)))
        case "exploring":
            wider = max(5, int(top_k * (1 + 0.5 * (1 - disagreement)))) if top_k else 0
            return replace(knobs, temperature=min(1.5, heat * (1.2 + 0.3 * interaction)), top_k=wider)
        case "resampling":
            return replace(
                knobs,
                temperature=max(2.0, heat * (2.0 + 0.5 * spread)),
                top_p=min(top_p, max(0.5, top_p - 0.2 * attention)),
            )
    unsure, unsure_attention = entropy + varentropy, attention + spread
    return replace(
        knobs,
        temperature=_clip(heat * (1 + 0.3 * unsure + 0.2 * unsure_attention - 0.2 * disagreement), 0.0, 100.0),
        top_p=_clip(top_p * (1 + 0.1 * spread), 0.1, 1.0),
        top_k=int(_clip(round(top_k * (1 + 0.3 * interaction - 0.2 * disagreement)), 1, 100)) if top_k else 0,
        min_p=_clip(knobs.min_p * (1 - 0.5 * unsure), 0.01, 0.5),
    )


def _third(where: str, knobs: Knobs, seen: Mapping[str, float]) -> Knobs:
    """S3."""
    _, varentropy, attention, spread, _, _ = _in_bits(seen)
    heat, top_p = knobs.temperature, knobs.top_p
    match where:
        case "flowing":
            return replace(knobs, temperature=0.0)
        case "resampling":
            return replace(
                knobs,
                temperature=min(2.0, heat * (0.3 + 0.25 * spread)),
                top_p=min(top_p, max(0.5, top_p - 0.3 * attention)),
            )
        case "adaptive":
            entropy = seen["entropy"]
            growth = math.sqrt((1.2 * entropy + 2.0) / entropy) if entropy > 0 else math.inf
            return replace(
                knobs,
                temperature=_clip(heat * growth, 0.1, 2.0) if heat else 0.0,
                min_p=_clip(knobs.min_p * (1 - 0.2 * varentropy), 0.01, 0.5),
            )
    return knobs


def _in_bits(seen: Mapping[str, float]) -> tuple[float, ...]:
    """In the order of SEEN; what is unknown has no influence."""
    units = (LN2, LN2**2, LN2, LN2**2, 1.0, 1.0)
    return tuple(seen.get(name, 0.0) / unit for name, unit in zip(SEEN, units, strict=True))


def _numbers(at: Thresholds) -> dict[str, float]:
    """Thresholds as plain numbers."""
    numbers: dict[str, float] = {}
    for name, value in asdict(at).items():
        if isinstance(value, tuple):
            numbers |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif value is not None:
            numbers[name] = value
    return numbers


def _changes(before: Knobs, after: Knobs) -> str:
    names = ("temperature", "top_k", "top_p", "min_p")
    changed = ((name, getattr(before, name), getattr(after, name)) for name in names)
    return ", ".join(f"{name.replace('_', '-')} {old:.3g} to {new:.3g}" for name, old, new in changed if old != new)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
