"""A figure: what was measured, what it came to, what it is meant to reach, and the command that measures it again."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
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
    """Such as '>= 0.95'; '>=' or '<=' where only the direction is known; empty for a number that explains another."""
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        """None where there is no goal."""
        relation, _, bound = self.goal.partition(" ")
        if not bound:
            return None
        return self.value >= float(bound) if relation == ">=" else self.value <= float(bound)

    @property
    def more_is_better(self) -> bool:
        return self.goal.startswith(">=") or (not self.goal and self.unit in ("tok/s", "x", "GB/s", "of the bound"))

    def change(self, was: float) -> float:
        """How many times better it is than it was: 1 for no change, or where one of the two is not known or not above
        0, unless it was exactly 0 and is not, or the other way round."""
        better, worse = (self.value, was) if self.more_is_better else (was, self.value)
        if math.isnan(better + worse) or min(better, worse) < 0 or better == worse:
            return 1.0
        return better / worse if worse else math.inf

    def line(self) -> str:
        verdict = {None: " ", True: "✓", False: "✗"}[self.reached]
        goal = "" if self.reached is None else f"(goal {self.goal})"
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


def machine() -> dict[str, str]:
    """What was measured on, and with which versions."""
    from importlib.metadata import PackageNotFoundError, version

    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "load": ", ".join(f"{value:.1f}" for value in os.getloadavg()),
        "python": platform.python_version(),
    }
    for name in ("torch", "transformers", "textual", "transformer-lens", "nnsight", "repeng"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


# --- Kept, and compared --------------------------------------------------------------------------------------

NOISE = 0.15
"""Share by which a figure may differ from run to run on a busy machine."""

Results = dict[str, list[Figure]]
"""The command of a section -> what it found."""


def kept(results: Results, about: Mapping[str, str]) -> str:
    """As JSON."""
    sections = {command: [asdict(figure) for figure in figures] for command, figures in results.items()}
    return json.dumps({"about": dict(about), "sections": sections}, indent=1)


def table(results: Results, about: Mapping[str, str]) -> str:
    """As Markdown."""
    lines = [", ".join(f"{name} {value}" for name, value in about.items())]
    for command, figures in results.items():
        lines += ["", f"`{command}`", "", "| figure | measured | goal | compared with |", "|---|---|---|---|"]
        lines += [
            f"| {figure.name} | {figure.value:.4g} {figure.unit} | {figure.goal} | {figure.detail} |"
            for figure in figures
        ]
    return "\n".join(lines) + "\n"


def slower(results: Results, about: Mapping[str, str], before: str) -> list[str]:
    """A sentence for each figure that got worse by more than the noise, the worst first, then for what got better.

    before: JSON as `kept` made it. Sections are told apart by their first word after the command.
    """
    baseline = json.loads(before)
    then = {
        (command.split()[1], figure["name"]): figure["value"]
        for command, figures in baseline["sections"].items()
        for figure in figures
    }
    said = [
        f"the baseline had another {name}: {was}"
        for name, was in baseline["about"].items()
        if name != "load" and was != about.get(name)
    ]
    changes = []
    for command, figures in results.items():
        for figure in figures:
            was = then.get((command.split()[1], figure.name))
            change = figure.change(was) if was is not None else 1.0
            if not 1 / (1 + NOISE) <= change <= 1 + NOISE:
                changes.append((change, f"{figure.name}: {was:.4g} -> {figure.value:.4g} {figure.unit}".rstrip()))
    worse = [
        f"WORSE {_times(1 / change if change else math.inf)}: {line}"
        for change, line in sorted(changes)
        if change < 1
    ]
    better = [f"better {_times(change)}: {line}" for change, line in sorted(changes, reverse=True) if change > 1]
    return said + worse + better


def _times(factor: float) -> str:
    return f"{factor:.2f} x" if math.isfinite(factor) else "beyond measure"
