"""Every knob: its names, what it may be, when it does nothing, and what it means. Asked before a model is loaded."""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.bounds import LARGEST_WHOLE
from tui_entropy.records.sampling import ORDERS, PENALTIES, VARIANTS, Knobs


class Knob(Struct, frozen=True):
    name: str
    """The field of `Knobs`."""
    short: str
    """As a screen names it, or the stage that it switches on."""
    meaning: str
    off: Any = None
    """The value at which it does nothing; None where it always does something."""
    low: float = 0
    high: float = math.inf
    above: bool = False
    """It must be above `low`; otherwise both ends are allowed."""
    rungs: tuple[float, ...] = ()
    """The values it steps through. A last one that is 'off' after larger numbers is looser than any number."""
    choices: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """It does nothing while all of these are off."""
    cost: float = 0
    """ms per token when it is on, as `scripts/bench metrics` found on two CPU cores with a vocabulary of 49,152."""

    @property
    def about(self) -> str:
        """The meaning, and what it costs where that can be felt."""
        return f"{self.meaning} Costs about {self.cost:g} ms a token." if self.cost else self.meaning

    @property
    def option(self) -> str:
        """On the command line."""
        return "--" + self.name.removeprefix("n_").replace("_", "-")

    @property
    def default(self) -> Any:
        return getattr(Knobs(), self.name)

    @property
    def whole(self) -> bool:
        return isinstance(self.default, int)

    @property
    def is_number(self) -> bool:
        return isinstance(self.default, int | float)


def _steps(first: float, last: float, step: float) -> tuple[float, ...]:
    return tuple(round(first + i * step, 6) for i in range(round((last - first) / step) + 1))


SHARES = (*_steps(0.05, 0.95, 0.05), 0.99, 1.0)
DRY = ("dry_multiplier",)

KNOBS = (
    Knob(
        "temperature", "T", "Divides the scores: higher is more even. 0 is greedy.",
        off=1.0, high=100, rungs=(*_steps(0.0, 2.0, 0.1), 2.5, 3.0, 4.0, 5.0),
    ),
    Knob(
        "top_k", "top-k", "Keeps this many of the most probable tokens. 0 is off.", off=0, high=10**7,
        rungs=(1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200, 500, 0),
    ),
    Knob(
        "top_p", "top-p", "Keeps the fewest tokens that together have this probability. 1 is off.",
        off=1.0, high=1, above=True, rungs=SHARES,
    ),
    Knob(
        "min_p", "min-p", "Keeps tokens with this share of the most probable one's probability. 0 is off.",
        off=0.0, high=1, rungs=(0.0, 0.005, 0.01, 0.02, 0.03, *_steps(0.05, 0.5, 0.05)), cost=0.4,
    ),
    Knob(
        "typical_p", "typical-p", "Keeps the tokens of most typical surprisal up to this probability. 1 is off.",
        off=1.0, high=1, above=True, rungs=SHARES, cost=0.7,
    ),
    Knob(
        "top_n_sigma", "top-nσ", "Keeps scores within so many standard deviations of the best. 0 is off.",
        off=0.0, high=1000, rungs=(*_steps(0.25, 3.0, 0.25), 0.0), cost=0.5,
    ),
    Knob(
        "repetition_penalty", "repeat", "Scales down tokens of prompt and written text. 1 is off.",
        off=1.0, high=100, above=True, rungs=_steps(0.8, 2.0, 0.05), cost=0.7,
    ),
    Knob(
        "frequency_penalty", "frequency", "Taken off for each time a token was written. 0 is off.",
        off=0.0, low=-100, high=100, rungs=_steps(-2.0, 2.0, 0.1), cost=0.7,
    ),
    Knob(
        "presence_penalty", "presence", "Taken off once if a token was written. 0 is off.",
        off=0.0, low=-100, high=100, rungs=_steps(-2.0, 2.0, 0.1), cost=0.7,
    ),
    Knob(
        "penalty_last_n", "last-n", "Newest tokens, prompt included, that penalties and DRY look at. 0 is no limit.",
        off=0, high=10**7, rungs=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 0), needs=(*PENALTIES, *DRY),
    ),
    Knob(
        "dynatemp_range", "T±", "The temperature moves this far either way with the entropy. 0 is off.",
        off=0.0, high=100, rungs=_steps(0.0, 2.0, 0.1), cost=1,
    ),
    Knob(
        "dynatemp_exponent", "T-exponent", "How the temperature follows the entropy: above 1 late, below 1 early.",
        high=100, above=True, rungs=_steps(0.25, 4.0, 0.25), needs=("dynatemp_range",),
    ),
    Knob(
        "dry_multiplier", "DRY", "Taken off a token that would go on repeating a sequence. 0 is off.",
        off=0.0, high=100, rungs=(*_steps(0.0, 2.0, 0.1), 3.0, 5.0), cost=1.5,
    ),
    Knob(
        "dry_base", "DRY-base", "By how much DRY grows with each further token that is repeated.",
        low=1, high=100, rungs=_steps(1.0, 4.0, 0.25), needs=DRY,
    ),
    Knob(
        "dry_allowed_length", "DRY-allowed", "The longest sequence that may be repeated before DRY grows.",
        low=1, high=1000, rungs=(1, 2, 3, 4, 5, 6, 8, 10, 15, 20), needs=DRY,
    ),
    Knob(
        "dry_breakers", "DRY-breakers",
        "Texts that end a repeated sequence, such as '\\n,:'; set on the command line.", needs=DRY,
    ),
    Knob(
        "xtc_probability", "XTC", "How often all likely tokens but the least likely of them go. 0 is off.",
        off=0.0, high=1, rungs=_steps(0.0, 1.0, 0.1), cost=0.7,
    ),
    Knob(
        "xtc_threshold", "XTC-threshold", "Probability from which XTC calls a token likely. Above 0.5 XTC is off.",
        high=1, rungs=(0.01, 0.02, *_steps(0.05, 0.5, 0.05)), needs=("xtc_probability",),
    ),
    Knob(
        "mirostat_tau", "mirostat", "Surprisal in bits that mirostat v2 holds the text at. 0 is off.",
        off=0.0, high=100, rungs=_steps(0.0, 10.0, 0.5), cost=0.4,
    ),
    Knob(
        "mirostat_eta", "mirostat-eta", "How fast mirostat corrects itself.",
        high=1, above=True, rungs=(0.01, 0.02, 0.05, *_steps(0.1, 1.0, 0.1)), needs=("mirostat_tau",),
    ),
    Knob(
        "adaptive", "adaptive", "An Entropix sampler changes the knobs at each step: off, S1, S3 or own.",
        off="off", choices=VARIANTS, cost=0.6,
    ),
    Knob(
        "clarifier", "clarifier",
        "The token it writes where the model is sure to be unsure; set on the command line.",
        off="", needs=("adaptive",),
    ),
    Knob(
        "banned", "banned", "Tokens that are never written: ids joined by commas, or X on a candidate.", off=(),
        needs=("banned",),  # there is nothing to turn while there are none
    ),
    Knob(
        "order", "order",
        "Order of the stages: hf, llama.cpp, vllm, or names joined by commas, the others after them.",
        choices=tuple(ORDERS),
    ),
    Knob("seed", "seed", "The draw at a position is a function of this and the position.", high=2**63 - 1),
    Knob(
        "n_candidates", "candidates", "Candidates kept for each step.",
        low=1, high=200, rungs=(1, 5, 10, 15, 20, 30, 40, 50, 100, 150, 200),
    ),
)  # fmt: skip
"""In the order in which a screen shows them."""

BY_NAME = {knob.name: knob for knob in KNOBS}


def is_off(knobs: Knobs, name: str) -> bool:
    """Whether it has the value at which it does nothing."""
    return bool(getattr(knobs, name) == BY_NAME[name].off)


def is_idle(knobs: Knobs, name: str) -> bool:
    """Whether it does nothing because every knob that it needs is off."""
    needs = BY_NAME[name].needs
    return bool(needs) and all(is_off(knobs, other) for other in needs)


def shown(knobs: Knobs, name: str) -> str:
    """Its value, short; text with its control characters escaped."""
    value = knobs.order_name if name == "order" else getattr(knobs, name)
    if name == "banned":
        return ",".join(map(str, value))
    if isinstance(value, tuple | str):
        return ",".join(repr(text)[1:-1] for text in ([value] if isinstance(value, str) else value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def brief(knobs: Knobs, name: str) -> str:
    """The same where there is little room: of what is banned how many."""
    return str(len(knobs.banned)) if name == "banned" else shown(knobs, name)


DIGITS = 100
"""Of a number that is looked at as one at all."""


def read(knobs: Knobs, name: str, text: str) -> Knobs:
    """The knob at a value that a person typed. Raises UserError."""
    knob = BY_NAME[name]
    value: Any = text
    if name == "order":
        named = tuple(stage.strip().replace("-", "_") for stage in text.split(","))
        value = ORDERS.get(text, named + tuple(stage for stage in ORDERS["hf"] if stage not in named))
    elif name == "dry_breakers":
        value = tuple(_unescaped(part) for part in text.split(",") if part)
    elif name == "banned":
        ids = [part.strip() for part in text.split(",") if part.strip()]
        if wrong := [part for part in ids if not _is_id(part)]:
            raise UserError(
                f"{wrong[0]!r} is no token id: give whole numbers below the size of the model's vocabulary, joined "
                "by commas, or nothing for none"
            )
        value = tuple(int(part) for part in ids)
    elif name == "clarifier":
        value = _unescaped(text)
    elif knob.is_number:
        try:
            value = int(text) if knob.whole else float(text)
        except ValueError:
            raise UserError(f"{knob.short} {text} is not {'a whole' if knob.whole else 'a'} number") from None
    changed = replace(knobs, **{name: value})
    check(changed)
    return changed


def _is_id(text: str) -> bool:
    """Whether some vocabulary could have it."""
    return text.isdecimal() and len(text) <= DIGITS and int(text) <= LARGEST_WHOLE


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t")


def check(knobs: Knobs, vocab: int | None = None) -> None:
    """Raise UserError for a value that a knob can not have, an order that is not one of all stages, or a token that
    a vocabulary of this size does not have; None where no model is known yet."""
    beyond = [] if vocab is None else [token_id for token_id in knobs.banned if not 0 <= token_id < vocab]
    if vocab is not None and beyond:
        raise UserError(
            f"there is no token {beyond[0]} that could be banned: ids go from 0 to {vocab - 1}, leave it out"
        )
    for knob in KNOBS:
        value = getattr(knobs, knob.name)
        if knob.is_number and not (knob.low < value <= knob.high or (value == knob.low and not knob.above)):
            ends = f"above {knob.low} and at most" if knob.above else f"between {knob.low} and"
            off = "" if knob.off is None else f"; {knob.off:g} switches it off"
            raise UserError(f"{knob.name} is {value} but must be {ends} {knob.high}{off}")
    if knobs.adaptive not in (choices := BY_NAME["adaptive"].choices):
        raise UserError(f"adaptive is {knobs.adaptive!r} but must be one of {', '.join(choices)}")
    stages = ORDERS["hf"]
    if sorted(knobs.order) != sorted(stages):
        wrong = [stage for stage in knobs.order if stage not in stages or knobs.order.count(stage) > 1]
        missing = [stage for stage in stages if stage not in knobs.order]
        problem = f"has {wrong[0]!r}, unknown or twice" if wrong else f"lacks {missing[0]!r}"
        raise UserError(
            f"the order of sampling stages {problem}: name each of {', '.join(stages)} once, "
            f"or take a preset ({', '.join(ORDERS)})"
        )
