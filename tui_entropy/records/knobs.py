"""Every knob: its names, what it may be, when it does nothing, and what it means. Asked before a model is loaded."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.bounds import LARGEST_WHOLE
from tui_entropy.records.sampling import VARIANTS, Knobs
from tui_entropy.stages.registry import ORDERS, STAGE_KNOBS
from tui_entropy.stages.stage import Knob

_USUAL = Knobs()

KNOBS = (
    *STAGE_KNOBS,
    Knob(
        "adaptive", "adaptive", "An Entropix sampler changes the knobs at each step: off, S1, S3 or own.",
        _USUAL.adaptive, "off", choices=VARIANTS, cost=0.6,
    ),
    Knob(
        "clarifier", "clarifier",
        "The token it writes where the model is sure to be unsure; set on the command line.",
        _USUAL.clarifier, "", needs=("adaptive",),
    ),
    Knob(
        "banned", "banned", "Tokens that are never written: ids joined by commas, or D on a candidate.",
        _USUAL.banned, (), needs=("banned",),  # there is nothing to turn while there are none
    ),
    Knob(
        "lens", "lens", "What every so many layers would have said goes with each step: 1 is every layer.",
        _USUAL.lens, 0, high=64, rungs=(0, 1, 2, 4, 8, 16),
    ),
    Knob(
        "lens_steps", "lens-steps", "The lens is read at every so many tokens.",
        _USUAL.lens_steps, low=1, high=1024, rungs=(1, 2, 4, 8, 16, 32), needs=("lens",),
    ),
    Knob(
        "lens_file", "lens-file",
        "A tuned lens (a folder) or Jacobian lens (a file) that the lens reads through; set on the command line.",
        _USUAL.lens_file, "", needs=("lens",),
    ),
    Knob(
        "order", "stage order",
        "Order of the stages: hf, llama.cpp, vllm, or names joined by commas, the others after them.",
        _USUAL.order, choices=tuple(ORDERS),
    ),
    Knob(
        "seed", "seed", "The draw at a position is a function of this and the position.", _USUAL.seed, high=2**63 - 1
    ),
    Knob(
        "n_candidates", "candidates", "Candidates kept for each step.", _USUAL.n_candidates,
        low=1, high=200, rungs=(1, 5, 10, 15, 20, 30, 40, 50, 100, 150, 200),
    ),
)  # fmt: skip
"""In the order in which a screen shows them."""

BY_NAME = {knob.name: knob for knob in KNOBS}
MEANINGS = {knob.name: knob.meaning for knob in KNOBS}


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
    """The same where there is little room: of what is banned how many, of a file its name."""
    if name == "banned":
        return str(len(knobs.banned))
    text = shown(knobs, name)
    return text.rstrip("/").rpartition("/")[2] if name == "lens_file" else text


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
    if "\0" in knobs.lens_file:
        raise UserError("lens_file has a zero byte in it, which no name of a file has: leave it out")
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
