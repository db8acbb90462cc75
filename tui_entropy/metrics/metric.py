"""Metric: one number for each token, with its name, unit, distribution and scale, and the two ways to have it.

Nothing here imports torch or numpy: a tensor or an array brings its operators with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tui_entropy.records.step import Step

if TYPE_CHECKING:
    from tui_entropy.metrics.inputs import Belief, StepTensors

LN2 = math.log(2)

UNIT_ENDS = {
    "information": "_nats", "information²": "_nats2", "logits": "_logits", "seconds": "_seconds", "norm": "_l2",
}  # fmt: skip
"""What is put behind the name of a number in a file, by its kind."""

Kind = Literal["information", "information²", "count", "share", "number", "logits", "norm", "sd", "seconds"]


def unread(step: Step) -> float | None:
    raise AssertionError("the registry says where it is read")


Expected = tuple[float | None, float | None, float]
"""What a check says that a number should be before rounding: the least and the most that is right, None for what is
unknown by the definition too; and how large the numbers are that rounding acts on, 0 where nothing is rounded."""


def exactly(value: float | None, size: float) -> Expected:
    """The expectation of one value, where it alone is right."""
    return value, value, size


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per token. Information is read in nats and shown in bits or nats."""

    name: str
    kind: Kind
    distribution: str
    """Which distribution it describes: 'model', 'final', 'attention', or '' for none."""
    ceiling: float
    """The value (in nats where it is information) at which colour and bars are full."""
    meaning: str
    """What it means, what high and low suggest, and what it does not mean."""
    read: Callable[[Step], float | None] = unread
    """Off the record of a step. A metric that is computed is read off `Step.numbers`, where the registry gives it a
    place."""
    compute: Callable[[StepTensors], Any] | None = None
    """(...,) on the device, of the tensors of a step; NaN is unknown. None for what follows from the record."""
    of_token: bool = False
    """Whether it is computed of the token that came next, too."""
    on_prompt: bool = False
    """Whether tokens of the prompt have it too."""
    check: Callable[[Belief], Expected] | None = None
    """Another way to it, in float64, for doctor and for tests: without a line of the first. One that is computed must
    have it; the checks of the others are in `engine/verify/checks/`."""

    @property
    def field(self) -> str:
        """Its name as one word: in conditions, and among the scores of a prompt."""
        return self.name.replace(" ", "_")

    @property
    def prompt(self) -> str:
        """Its name among SCORES, where tokens of the prompt have it too."""
        return self.field if self.on_prompt else ""

    @property
    def column(self) -> str:
        """Its name in every file, with its unit: traces, tables, arrays, JSON lines. The head varentropies themselves
        are there too."""
        mean = "mean_" if self.name == "head varentropy" else ""
        return mean + self.field + UNIT_ENDS.get(self.kind, "")

    def value(self, step: Step, bits: bool) -> float | None:
        """In the unit of `unit`. None where the step does not have it."""
        return self.shown(self.read(step), bits)

    def shown(self, raw: float | None, bits: bool) -> float | None:
        """The value that `read` gave, in the unit of `unit`."""
        return None if raw is None else self.in_unit(raw, bits)

    def in_unit(self, raw: float, bits: bool) -> float:
        """The same of a value that is known."""
        return raw / self._divisor(bits)

    def bounds(self, step: Step) -> tuple[float, float] | None:
        """(low, high) as `read` would give them, where the value is unknown and something is known of it."""
        return step.bounds_of(self.field) if step.bounds else None

    def level(self, raw: float | None) -> float | None:
        """The size of what `read` gave, as 0 ... 1 of the ceiling, the same in every unit."""
        return None if raw is None else min(abs(raw) / self.ceiling, 1.0)

    def sizes(self, low: float, high: float) -> tuple[float, float]:
        """The least and the greatest size of what lies between two bounds."""
        least, greatest = sorted((abs(low), abs(high)))
        return (0.0 if low < 0 < high else least), greatest

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
            case "logits" | "sd":
                return self.kind
            case "norm":
                return "L2"
            case _:
                return ""

    def _divisor(self, bits: bool) -> float:
        if not bits:
            return 1.0
        return {"information": LN2, "information²": LN2 * LN2}.get(self.kind, 1.0)


LARGEST = 2**53
"""No count is larger; a file may say what it will."""
