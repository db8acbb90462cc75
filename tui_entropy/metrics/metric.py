"""Metric: one number for each token, with its name, unit, distribution and scale, and the two ways to have it.

Nothing here imports torch or numpy: a tensor or an array brings its operators with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from tui_entropy.records.step import Step

LN2 = math.log(2)

UNIT_ENDS = {
    "information": "_nats", "information²": "_nats2", "logits": "_logits", "seconds": "_seconds", "norm": "_l2",
}  # fmt: skip
"""What is put behind the name of a number in a file, by its kind."""

Kind = Literal["information", "information²", "count", "share", "number", "logits", "norm", "sd", "seconds"]


def unread(step: Step) -> float | None:
    raise AssertionError("the registry says where it is read")


class StepTensors(Protocol):
    """The tensors of one step, or of several positions of a prompt, that a metric is computed from."""

    @property
    def logits(self) -> Any:
        """(..., vocab) float32 of the model."""

    @property
    def logp(self) -> Any:
        """(..., vocab) float32, ln p."""

    @property
    def best(self) -> Any:
        """(..., k) ln p of the most probable tokens, in order; at least two, where the vocabulary has two."""

    @property
    def token(self) -> Any:
        """(...,) int64 ids of the tokens that came next. Only a metric `of_token` may look at them."""

    @property
    def moments(self) -> tuple[Any, Any]:
        """(...,) mean and variance of the surprisal under the model: nats, nats squared."""

    @property
    def surprisal(self) -> Any:
        """(...,) nats, of the token."""

    @property
    def rank(self) -> Any:
        """(...,) of the token, 1 for the most probable; ties share the better one."""

    @property
    def margins(self) -> tuple[Any, Any]:
        """(...,) what the most probable token is ahead of the second, as logits and as probability."""


class Belief(Protocol):
    """A row of logits in float64 on the host, for a check: arrays of numpy."""

    @property
    def logits(self) -> Any:
        """(vocab,)."""

    @property
    def token(self) -> int:
        """The token that came next."""

    @property
    def close(self) -> float:
        """How far logits may be apart that the first way cannot tell apart."""

    @property
    def size(self) -> float:
        """The largest of the logits, without its sign: what rounding acts on."""

    @property
    def surprisals(self) -> Any:
        """(vocab,) -ln p."""

    @property
    def p(self) -> Any:
        """(n,) probabilities of the tokens that are possible at all."""

    @property
    def nats(self) -> Any:
        """(n,) -ln p of the same."""


class Expected(NamedTuple):
    """What a check says that a number should be, before rounding."""

    least: float | None
    """None for what is unknown by the definition too."""
    most: float | None
    """Where one value alone is right, that of `least`."""
    size: float
    """How large the numbers are that rounding acts on; 0 where there is nothing to be rounded."""


def exactly(value: float | None, size: float) -> Expected:
    return Expected(value, value, size)


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
        """What `read` gave, in the unit of `unit`."""
        return None if raw is None else raw / self._divisor(bits)

    def level(self, raw: float | None) -> float | None:
        """The size of what `read` gave, as 0 ... 1 of the ceiling, the same in every unit."""
        return None if raw is None else min(abs(raw) / self.ceiling, 1.0)

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
