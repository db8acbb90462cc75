"""The Entropix samplers as their source has them (github xjdr-alt/entropix, S1 is 9702669, S3 is 9d41be6), in bits.

The knobs of a person are the base that is changed, and what is unknown counts as 0 and holds no decision back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tui_entropy.records.sampling import Knobs

BITS = {"entropy": 1, "varentropy": 2, "attention_entropy": 1, "attention_varentropy": 2}
"""Powers of ln 2 that each number is divided by."""


def decision(knobs: Knobs, nats: Mapping[str, float], recent: npt.ArrayLike = ()) -> tuple[str, dict[str, Any]]:
    """The quadrant, and the knobs that the token is drawn with.

    nats: what the sampler sees. recent: (n, 2) entropy and varentropy of earlier steps, for the variant 'own'.
    """
    saw = {name: value / math.log(2) ** BITS.get(name, 0) for name, value in nats.items()}
    base = {name: getattr(knobs, name) for name in ("temperature", "top_k", "top_p", "min_p")}
    if knobs.adaptive == "S3":
        where = _third(saw)
        return where, base | _acts_third(where, base, saw)
    if knobs.adaptive == "own":
        known = np.asarray(recent, dtype=np.float64).reshape(-1, 2)[-256:]
        if len(known) < 32:
            return "warming up", base
        (low, v_low), (high, v_high) = np.quantile(known, [0.25, 0.75], axis=0)
        h, v = nats["entropy"], nats["varentropy"]
    else:
        h, v, low, high, v_low, v_high = saw["entropy"], saw["varentropy"], 0.1, 5.0, 0.1, 5.0
    asking = high if knobs.adaptive == "own" else 3.0
    if v < v_low and (h < low or h > asking):
        where = "flowing" if h < low else "asking"
    elif v > v_high and h != high:
        where = "exploring" if h < high else "resampling"
    else:
        where = "adaptive"
    return where, base | _acts_first(where, base, saw)


def _third(saw: Mapping[str, float]) -> str:
    h, v = saw["entropy"], saw["varentropy"]
    attention, spread = saw.get("attention_entropy"), saw.get("attention_varentropy")
    little = (attention is None or attention < 1.0) and (spread is None or spread < 0.3)
    if v < 0.4 and little and (h < 0.8 or h > 2.5):
        return "flowing" if h < 0.8 else "asking"
    if h < 2.5 and v > 1.2 and (attention is None or attention < 1.0) and (spread is None or spread > 0.8):
        return "exploring"
    if h > 1.7 and v > 1.2 and (attention is None or attention > 2.0) and (spread is None or spread > 0.8):
        return "resampling"
    return "adaptive"


def _acts_first(where: str, base: Mapping[str, Any], saw: Mapping[str, float]) -> dict[str, Any]:
    heat, k, p = base["temperature"], base["top_k"], base["top_p"]
    attention, spread, agreement, interaction = (
        saw.get(name, 0.0) for name in ("attention_entropy", "attention_varentropy", "agreement", "interaction")
    )
    if where == "flowing":
        return {"temperature": 0.0}
    if where == "asking":
        return {"temperature": min(1.5, heat * (1.3 + 0.2 * attention))}
    if where == "exploring":
        wider = max(5, int(k * (1 + 0.5 * (1 - agreement)))) if k else 0
        return {"temperature": min(1.5, heat * (1.2 + 0.3 * interaction)), "top_k": wider}
    if where == "resampling":
        narrower = max(0.5, p - 0.2 * attention)
        return {"temperature": max(2.0, heat * (2.0 + 0.5 * spread)), "top_p": min(p, narrower)}
    unsure = saw["entropy"] + saw["varentropy"]
    grown = heat * (1 + 0.3 * unsure + 0.2 * (attention + spread) - 0.2 * agreement)
    return {
        "temperature": min(max(grown, 0.0), 100.0),
        "top_k": min(max(round(k * (1 + 0.3 * interaction - 0.2 * agreement)), 1), 100) if k else 0,
        "top_p": min(max(p * (1 + 0.1 * spread), 0.1), 1.0),
        "min_p": min(max(base["min_p"] * (1 - 0.5 * unsure), 0.01), 0.5),
    }


def _acts_third(where: str, base: Mapping[str, Any], saw: Mapping[str, float]) -> dict[str, Any]:
    heat, p = base["temperature"], base["top_p"]
    attention, spread = saw.get("attention_entropy", 0.0), saw.get("attention_varentropy", 0.0)
    if where == "flowing":
        return {"temperature": 0.0}
    if where == "resampling":
        return {
            "temperature": min(2.0, heat * (0.3 + 0.25 * spread)),
            "top_p": min(p, max(0.5, p - 0.3 * attention)),
        }
    if where == "adaptive":
        nats = saw["entropy"] * math.log(2)
        growth = math.sqrt(1.2 + 2.0 / nats) if nats > 0 else math.inf
        return {
            "temperature": min(max(heat * growth, 0.1), 2.0) if heat else 0.0,
            "min_p": min(max(base["min_p"] * (1 - 0.2 * saw["varentropy"]), 0.01), 0.5),
        }
    return {}


def thresholds(variant: str) -> dict[str, float]:
    """By the names of a decision, in nats; nothing for a variant that has those of its text."""
    bits: dict[str, dict[str, tuple[float, ...]]] = {
        "S1": {"entropy": (0.1, 5.0, 3.0, 5.0), "varentropy": (0.1, 5.0)},
        "S3": {
            "entropy": (0.8, 2.5, 2.5, 1.7), "varentropy": (0.4, 1.2), "attention": (1.0, 2.0), "spread": (0.3, 0.8),
        },
    }  # fmt: skip
    ends = ("low", "high", "asking", "resampling")
    return {
        f"{name}_{end}": value * math.log(2) ** (2 if name in ("varentropy", "spread") else 1)
        for name, values in bits.get(variant, {}).items()
        for end, value in zip(ends, values, strict=False)
    }


def action(before: Knobs, quadrant: str, after: Mapping[str, Any]) -> str:
    """In words, where nothing is asked."""
    if quadrant == "flowing":
        return "take the most probable"
    if quadrant == "warming up":
        return "knobs as set"
    said = [
        f"{name.replace('_', '-')} {getattr(before, name):.3g} to {after[name]:.3g}"
        for name in ("temperature", "top_k", "top_p", "min_p")
        if after[name] != getattr(before, name)
    ]
    return ", ".join(said + ["best of 5 draws"] * (quadrant == "adaptive")) or "as set"
