"""The numbers of a step by name, whatever metrics there are."""

from __future__ import annotations

from msgspec.structs import replace

from tui_entropy.metrics.registry import COMPUTED
from tui_entropy.records.step import Step

OTHERS = 0.25
"""What is said of a metric that nobody names."""


def numbers(**named: float | None) -> tuple[float | None, ...]:
    """For `Step.numbers`."""
    assert named.keys() <= {metric.field for metric in COMPUTED}
    return tuple(named.get(metric.field, OTHERS) for metric in COMPUTED)


def with_numbers(step: Step, **named: float | None) -> Step:
    """A step that is the same but for these."""
    now = {metric.field: value for metric, value in zip(COMPUTED, step.numbers, strict=True)}
    return replace(step, numbers=numbers(**(now | named)))
