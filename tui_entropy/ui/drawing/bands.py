"""Stretches of a text over which a vector was on, and where other runs leave it: what stands under a chart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tui_entropy.state.run_view import Mark, RunView
from tui_entropy.state.session_view import SessionView


@dataclass(frozen=True, slots=True)
class Band:
    name: str
    amount: str
    """Its strength, as `Vector.amount`."""
    first: int
    """The first step that it acts on."""
    last: int | None
    """The step before which it ends; None where it is on."""
    rebuilt: bool
    """The text before was read again under it; otherwise it acts from there on."""

    @property
    def policy(self) -> str:
        return "read again" if self.rebuilt else "from here on"

    def covers(self, index: int) -> bool:
        return self.first <= index and (self.last is None or index < self.last)


def bands(run: RunView) -> list[Band]:
    """In the order they began. Another strength, or another reading, begins another one."""
    found: list[Band] = []
    on: dict[str, tuple[Band, object]] = {}
    for change in run.vector_changes:
        for vector in change.vectors:
            band, was = on.get(vector.name, (None, None))
            if band is not None and (vector != was or change.rebuilt):
                del on[vector.name]
                if band.first < change.index:
                    found.append(replace(band, last=change.index))
            if vector.on and vector.name not in on:
                on[vector.name] = Band(vector.name, vector.amount, change.index, None, change.rebuilt), vector
    return sorted([*found, *(band for band, _ in on.values())], key=lambda band: band.first)


def forks(log: SessionView) -> list[Mark]:
    """The marks where branches leave the run that is looked at."""
    leaving: dict[int, list[str]] = {}
    for run in log.runs.values():
        began = run.started
        if (
            log.run_number
            and began.parent == log.run_number
            and not run.deleted
            and run.steps
            and began.twin_of is None
        ):
            leaving.setdefault(began.shared, []).append(str(began.run))
    return [Mark(index, f"to run {', '.join(runs)}") for index, runs in leaving.items()]
