"""The terms of the language of breakpoints: quantities with their units, and everything that has a name."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tui_entropy.breakpoints.interval import Interval
from tui_entropy.metrics.entropix import QUADRANTS, THRESHOLDS, quadrant
from tui_entropy.metrics.metric import LN2, Metric
from tui_entropy.metrics.readers import mean
from tui_entropy.metrics.registry import BY_NAME, METRICS
from tui_entropy.records.settings import Watch
from tui_entropy.records.step import BLOCKS, STATES, Shadow, Step, normalised


class Moment(NamedTuple):
    """The moment that a condition looks at."""

    step: Step
    text: str
    """Everything written, with what the step adds."""
    watches: Sequence[Watch]
    """In the order of step.watched."""


Read = Callable[[Moment], Any]
"""A float (nats, seconds), an Interval, a string or a bool; None where it is unknown."""


@dataclass(frozen=True, slots=True)
class Term:
    kind: str
    """One of KINDS."""
    spelled: str
    """With every unit."""
    level: int
    """How tightly its operator binds; see LEVELS."""
    at: int
    """Where it begins in the expression."""
    read: Read
    bare: float | None = None
    """Its value, where it is made of numbers without a unit."""
    literal: str | None = None
    """Its value, where it is text in quotes."""
    values: Sequence[str] = ()
    """All that it can be, where that is known."""

    def within(self, level: int) -> str:
        return self.spelled if self.level >= level else f"({self.spelled})"


KINDS = {
    "number": "a plain number",
    "information": "information (bits or nats)",
    "information²": "information squared (bits² or nats²)",
    "seconds": "a time (s or ms)",
    "text": "text",
    "truth": "true or false by itself",
}
UNITS = {
    "bits": ("bits", "information", LN2),
    "nats": ("nats", "information", 1.0),
    "bits²": ("bits²", "information²", LN2**2),
    "nats²": ("nats²", "information²", 1.0),
    "s": ("s", "seconds", 1.0),
    "ms": ("ms", "seconds", 0.001),
}
"""As typed -> as spelled, of which kind, and what one of it is in nats, nats squared or seconds."""
UNITS |= {"bit": UNITS["bits"], "nat": UNITS["nats"], "bits2": UNITS["bits²"], "nats2": UNITS["nats²"]}
SHOWN_IN = {"information": "bits", "information²": "bits²", "seconds": "s"}
"""What a number without a unit is taken to be in beside such a quantity: what the screen shows it in."""

NOT, COMPARED, UNARY, ATOM = 3, 4, 7, 8
LEVELS = {
    "or": 1, "and": 2, **dict.fromkeys(("<", "<=", ">", ">=", "==", "!=", "~", "!~"), COMPARED),
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6,
}  # fmt: skip
ACTS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
    "+": operator.add, "-": operator.sub, "*": operator.mul,
    "/": lambda a, b: a / b if b else None, "%": lambda a, b: a % b if b else None,
}  # fmt: skip

PRODUCTS = {(kind, "/", kind): "number" for kind in ("number", *SHOWN_IN)}
PRODUCTS |= {(kind, sign, "number"): kind for kind in ("number", *SHOWN_IN) for sign in "*/"}
PRODUCTS |= {("number", "*", kind): kind for kind in SHOWN_IN}
PRODUCTS |= {("information", "*", "information"): "information²", ("information²", "/", "information"): "information"}


def known(value: float | None) -> float | None:
    """NaN is unknown."""
    return None if value is None or value != value else value


def both(act: Callable[[Any, Any], Any], left: Read, right: Read) -> Read:
    def read(moment: Moment) -> Any:
        if (a := left(moment)) is None or (b := right(moment)) is None:
            return None
        return known(act(a, b))

    return read


def joined(decides: bool, left: Read, right: Read) -> Read:
    """`or` is decided by one that is True, `and` by one that is False."""

    def read(moment: Moment) -> Any:
        if (a := left(moment)) is decides or (b := right(moment)) is decides:
            return decides
        return None if a is None or b is None else not decides

    return read


def of_step(read: Callable[[Step], Any]) -> Read:
    return lambda moment: known(read(moment.step))


def number(value: float, at: int, unit: str = "") -> Term:
    spelled, kind, worth = UNITS.get(unit, ("", "number", 1.0))
    text = f"{repr(value).removesuffix('.0')} {spelled}".rstrip()
    level, inside = UNARY if text.startswith("-") else ATOM, value * worth
    return Term(kind, text, level, at, lambda _: inside, None if unit else value)


# --- What can be named ---------------------------------------------------------------------------------------


def shadowed(read: Callable[[Step, Shadow], Any]) -> Callable[[Step], Any]:
    return lambda step: None if step.shadow is None else read(step, step.shadow)


def place(step: Step) -> str:
    """The quadrant, as the adaptive sampler decided it, else by the thresholds of S1."""
    return step.decision.quadrant if step.decision else quadrant(THRESHOLDS["S1"], step.entropy, step.varentropy)


def of_series(metric: Metric) -> Name:
    """The name of a metric. What is 0 or 1 along the text is true or false here."""
    if metric.name in ("flip", "by lane"):
        return Name("truth", lambda step: None if (value := metric.read(step)) is None else value > 0)
    return Name(metric.kind if metric.kind in SHOWN_IN else "number", lambda step: bounded(metric, step))


def bounded(metric: Metric, step: Step) -> Any:
    """The value of a metric, as an Interval where only bounds of it are known."""
    value = metric.read(step)
    if not step.bounds or known(value) is not None or (bounds := metric.bounds(step)) is None:
        return value
    return Interval(*bounds)


class Name(NamedTuple):
    kind: str
    """One of KINDS."""
    read: Callable[[Step], Any]
    values: Sequence[str] = ()
    """All that it can be, where that is known."""


SURPRISAL = BY_NAME["surprisal"]
NAMES = {
    "step": Name("number", lambda step: float(step.index + 1)),
    "position": Name("number", lambda step: float(step.position)),
    "token": Name("text", lambda step: step.token_bytes.decode("utf-8", "replace")),
    "text": Name("text", lambda _: None),
    "state": Name("text", lambda step: step.state, STATES),
    "quadrant": Name("text", place, (*QUADRANTS, "warming up")),
    "logprob": Name("information", lambda step: None if (nats := bounded(SURPRISAL, step)) is None else -nats),
    "prob": Name("number", lambda step: math.exp(min(-step.surprisal, 0.0))),
    "final_prob": Name("number", lambda step: step.final_prob),
    "kl": Name("information", shadowed(lambda _, shadow: shadow.kl)),
    "shadow_entropy": Name("information", shadowed(lambda _, shadow: shadow.entropy)),
} | {one.name.replace(" ", "_"): of_series(one) for one in METRICS}
"""Everything without an index, `text` of the moment and not of the step."""
NAMES_IN_FILES = {one.column: name for one in METRICS if (name := one.name.replace(" ", "_")) != one.column}
"""What files call them, which is understood too."""
INDEXED = {
    "head": "a layer and perhaps a head, such as head[5,3]",
    "norm": "a layer, such as norm[5]",
    "p": 'a text, such as p[" Yes"]',
    "rank": 'a text, such as rank[" Yes"]',
}


def heads(layer: int, head: int | None) -> Read:
    """Entropy / ln n of a head, or the mean of a layer; both from 1."""

    def read(step: Step) -> float | None:
        if layer > step.head_entropy.shape[0] or (head or 1) > step.head_entropy.shape[1]:
            return None
        row = normalised(step.head_entropy.rows()[layer - 1], step.visible_keys[layer - 1])
        return row[head - 1] if head else mean(value for value in row if value is not None)

    return of_step(read)


def block_norm(layer: int) -> Read:
    at = BLOCKS.index("norm")
    return of_step(lambda step: step.blocks.rows()[layer - 1][at] if layer <= step.blocks.shape[0] else None)


def followed(text: str, ranked: bool) -> Read:
    """Probability or rank (model) of a text that is watched, or else of a candidate that is just that."""
    data = text.encode()

    def read(moment: Moment) -> float | None:
        for watch, seen in zip(moment.watches, moment.step.watched, strict=False):
            if watch.text == text:
                return float(seen.rank) if ranked else math.exp(min(seen.logprob, 0.0))
        candidates = moment.step.candidates
        for one in candidates:
            if one.token_bytes == data:
                above = sum(other.logprob > one.logprob for other in candidates)
                return 1.0 + above if ranked else math.exp(min(one.logprob, 0.0))
        return None

    return read
