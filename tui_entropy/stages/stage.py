"""Knob and Stage: what can be set, and a step of the sampling chain that is set by it.

Nothing here imports torch or numpy: a tensor or an array brings its operators with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from msgspec import Struct

GREEDY_BELOW = 1e-3
"""Temperatures below it are taken as 0: dividing by them could overflow, and would not change the choice."""
HUGE = 1e30
"""The largest score or penalty; with a larger one a stage could overflow. A logit below its opposite is -inf: some
models write the smallest number there is for what they mask."""
CLOSE = 2e-5
"""The distance from the edge of a stage at which float32 may decide otherwise, as a share of the edge, or of 1 if it
is smaller."""


class Knob(Struct, frozen=True):
    """A setting of the sampler: its names, what it may be, when it does nothing, and what it means."""

    name: str
    """The field of `Knobs`."""
    short: str
    """As a screen names it, or the stage that it switches on."""
    meaning: str
    default: Any
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
    after: str = ""
    """The knob that it follows on a screen, where that is not the one before it in its stage."""
    type: Any = None
    """The type that a message may have for it, where that is not the type of the default."""

    @property
    def about(self) -> str:
        """The meaning, and what it costs where that can be felt."""
        return f"{self.meaning} Costs about {self.cost:g} ms a token." if self.cost else self.meaning

    @property
    def option(self) -> str:
        """On the command line."""
        return "--" + self.name.removeprefix("n_").replace("_", "-")

    @property
    def whole(self) -> bool:
        return isinstance(self.default, int)

    @property
    def is_number(self) -> bool:
        return isinstance(self.default, int | float)


def rungs(first: float, last: float, step: float) -> tuple[float, ...]:
    """Values at equal steps, both ends among them."""
    return tuple(round(first + i * step, 6) for i in range(round((last - first) / step) + 1))


SHARES = (*rungs(0.05, 0.95, 0.05), 0.99, 1.0)

PRESETS = ("hf", "llama.cpp", "vllm")
"""The engines whose orders of stages there are."""


@dataclass(frozen=True)
class Stage:
    """A step of the chain. Each function is given what the stage before left, what else is known of the text, and the
    values of the stage's own knobs and of those in `also`, one after the other."""

    knobs: tuple[Knob, ...]
    """The first names the stage and switches it on. One that several stages share belongs to one of them."""
    places: tuple[float, float, float]
    """The places in the orders of PRESETS, which are sorted by it: what stands between 3 and 4 has 3.5. A stage that
    an engine lacks stands beside its like or comes last, so that no knob is silently without effect."""
    rescore: Callable[..., Any] | None = None
    """(n,) scores in place of those of a `Row`; every token stays. One that has `keep` too does that when greedy."""
    keep: Callable[..., Any] | None = None
    """(n,) bool: which tokens of a `Row` are left, at least one. When greedy, a stage that only removes is off."""
    check: Callable[..., Any] = field(kw_only=True)
    """Another way to the same, in float64 and for doctor, without a line of the first: scores of an `ExactRow`, or
    which of its tokens are left and how near to the edge the nearest is (`ExactRow.nearest`)."""
    example: Mapping[str, Any] = field(kw_only=True)
    """Knobs under which it bites: doctor has a token written under them, and the bench tells what they cost."""
    also: tuple[str, ...] = ()
    """Knobs that do not belong to it."""
    acts: Callable[..., bool] | None = None
    """Whether it is on with these values, where that is not whether its first knob is."""
    check_acts: Callable[..., bool] | None = None
    """Another way to `acts`."""
    in_graph: bool = False
    """Whether it looks at nothing on the host, so that a CUDA graph can hold it: its numbers are 0-d tensors there,
    but for those that are off."""
    alone_in: str = ""
    """The preset in which it passes over all other stages but `beside`, and over what else those have that can be
    off."""
    beside: tuple[str, ...] = ()

    @cached_property
    def name(self) -> str:
        return self.knobs[0].name

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The knobs whose values its functions are given."""
        return (*(knob.name for knob in self.knobs), *self.also)

    def values(self, knobs: object) -> list[Any]:
        return [getattr(knobs, name) for name in self.given]


def on_device(value: object) -> bool:
    """Whether a number is a tensor, which is not to be looked at. Only one that is on is."""
    return not isinstance(value, int | float)
