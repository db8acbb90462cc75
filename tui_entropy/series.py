"""Numbers that can be drawn along the text: name, unit, scale, and how to read them off a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tui_entropy.records import Step, normalised

LN2 = math.log(2)

Kind = Literal["information", "information²", "count", "share", "number", "seconds"]


@dataclass(frozen=True, slots=True)
class Series:
    """One number per step. Information is read in nats and shown in bits or nats."""

    name: str
    kind: Kind
    distribution: str
    """Which distribution it describes: 'model', 'final', 'attention', or '' for none."""
    read: Callable[[Step], float | None]
    ceiling: float
    """The value (in nats where it is information) at which colour and bars are full."""
    meaning: str
    """What it means, what high and low suggest, and what it does not mean."""

    def value(self, step: Step, bits: bool) -> float | None:
        """In the unit of `unit`. None where the step does not have it."""
        return self.shown(self.read(step), bits)

    def shown(self, raw: float | None, bits: bool) -> float | None:
        """What `read` gave, in the unit of `unit`."""
        return None if raw is None else raw / self._divisor(bits)

    def level(self, raw: float | None) -> float | None:
        """What `read` gave, as 0 ... 1 of the ceiling, the same in every unit."""
        return None if raw is None else min(max(raw / self.ceiling, 0.0), 1.0)

    def top(self, bits: bool) -> float:
        """The ceiling in the unit shown."""
        return self.ceiling / self._divisor(bits)

    def unit(self, bits: bool) -> str:
        match self.kind:
            case "information":
                return "bits" if bits else "nats"
            case "information²":
                return "bits²" if bits else "nats²"
            case "seconds":
                return "s"
            case _:
                return ""

    def _divisor(self, bits: bool) -> float:
        if not bits:
            return 1.0
        return {"information": LN2, "information²": LN2 * LN2}.get(self.kind, 1.0)


def mean_head_entropy(step: Step) -> float | None:
    """Mean over all layers and heads of entropy / ln n."""
    shares = [
        share
        for row, keys in zip(step.head_entropy.rows(), step.visible_keys, strict=True)
        for share in normalised(row, keys)
        if share is not None
    ]
    return sum(shares) / len(shares) if shares else None


SERIES = (
    Series(
        "entropy",
        "information",
        "model",
        lambda step: step.entropy,
        6 * LN2,
        "How spread the model's belief about the next token was: 0 is one certain token, 1 bit is a fair coin. "
        "High means many tokens would do, not that the written one is wrong.",
    ),
    Series(
        "varentropy",
        "information²",
        "model",
        lambda step: step.varentropy,
        8 * LN2**2,
        "The variance of the surprisal -log p under the model. High means a few likely tokens beside a long tail; it "
        "is 0 both at certainty and when all tokens that matter are equally likely, a 50/50 fork among them.",
    ),
    Series(
        "surprisal",
        "information",
        "model",
        lambda step: step.surprisal,
        8 * LN2,
        "-log p of the token that was written. High means the draw took something the model thought unlikely; "
        "its mean over the text is the log of the perplexity, not a measure of truth.",
    ),
    Series(
        "rank",
        "count",
        "model",
        lambda step: float(step.rank),
        10.0,
        "Place of the written token among all tokens, 1 for the most probable. A high rank is the sampler's luck or "
        "a flat distribution; look at entropy to tell them apart.",
    ),
    Series(
        "final entropy",
        "information",
        "final",
        lambda step: step.final_entropy,
        6 * LN2,
        "The entropy that was left to the dice after penalties, temperature and truncation. 0 means the token was "
        "forced, however unsure the model was.",
    ),
    Series(
        "head entropy",
        "share",
        "attention",
        mean_head_entropy,
        1.0,
        "Mean over layers and heads of attention entropy / log n, n the visible keys: 0 looks at one token, 1 at all "
        "alike. It says how widely the model looked, not what it used.",
    ),
)

BY_NAME = {series.name: series for series in SERIES}
