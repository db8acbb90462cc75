"""A figure: what was measured, what it came to, what it is meant to reach, and the command that measures it again."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Settings:
    """What every section is told."""

    quick: bool
    """A few rounds, to see that it works; too few to quote."""
    model: str
    device: str
    rounds: int


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    unit: str
    goal: str
    """Such as '>= 0.95'; empty for a number that only explains another."""
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        """None where there is no goal."""
        if not self.goal:
            return None
        relation, bound = self.goal.split()
        return self.value >= float(bound) if relation == ">=" else self.value <= float(bound)

    def line(self) -> str:
        verdict = {None: " ", True: "✓", False: "✗"}[self.reached]
        goal = f"(goal {self.goal})" if self.goal else ""
        return f"{verdict} {self.name:<58}{self.value:>9.4g} {self.unit:<13}{goal:<15} {self.detail}".rstrip()


def in_turns(contestants: Mapping[str, Callable[[], Outcome]], rounds: int) -> dict[str, list[Outcome]]:
    """Each contestant once per round, every other round in reverse order, so that drift favours none."""
    results: dict[str, list[Outcome]] = {name: [] for name in contestants}
    for nth in range(rounds):
        for name in list(contestants)[:: -1 if nth % 2 else 1]:
            results[name].append(contestants[name]())
    return results


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Median over the rounds of this / that: what slows one round down slows both down."""
    return statistics.median(this / that for this, that in zip(these, those, strict=True))


def percentile(numbers: Sequence[float], share: float) -> float:
    """The smallest number that at least `share` of them do not exceed."""
    ranked = sorted(numbers)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


def spread(numbers: Sequence[float], unit: str) -> str:
    return f"{statistics.median(numbers):.4g} {unit} ({min(numbers):.4g} to {max(numbers):.4g})"


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load}"
