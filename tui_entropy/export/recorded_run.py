"""The run that an export is made from: what is known of it, and where it was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.records.events import Event, Started
from tui_entropy.records.model import ModelCard
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.lineage import Stretch
from tui_entropy.trace.reader import Trace


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run with all that is known of it, recorded or not: tables, arrays and the page are made of it."""

    card: ModelCard
    started: Started
    log: SessionView
    """Of the whole run. Its steps are read as they are asked for: go through them once."""
    lineage: tuple[Stretch, ...]
    """The runs that wrote its steps, root first."""
    began: float
    """Wall clock, seconds since 1970."""
    bits: bool = False
    """Whether pictures show information in bits; tables are always in nats."""

    @property
    def writers(self) -> list[int]:
        """The run that wrote each step."""
        return [part.run for part in self.lineage for _ in range(part.first, part.last)]

    @property
    def labels(self) -> dict[int, str]:
        """First step that something changed acts on -> what changed, as 'T 0.7→1.2; warm on +1'."""
        found: dict[int, list[str]] = {}
        for mark in self.log.marks:
            found.setdefault(mark.index, []).append(mark.label)
        return {index: "; ".join(labels) for index, labels in found.items()}


@dataclass(frozen=True, kw_only=True)
class Recording(RunRecord):
    """A run of a trace file."""

    trace: Trace

    def events(self, run: int) -> Iterator[Event]:
        """The events of one run, in order; without its steps."""
        return (event for *_, event in self.trace.events(run))


def open_recording(path: Path, run: int | None, bits: bool) -> Recording:
    """A run of a trace file with all that it goes on from, by default the one that was looked at last. Raises
    UserError."""
    trace = Trace.open(path)
    log = trace.log(run)
    if log.started is None:
        raise UserError(f"{path} holds no run that could be exported: write one first, or give another file")
    if log.card is None:
        raise UserError(f"{path} does not say which model wrote it, that part is damaged: give another file")
    began = next(wall for _, wall, event in trace.events(log.run_number) if isinstance(event, Started))
    return Recording(
        trace=trace,
        card=log.card,
        started=log.started,
        log=log,
        lineage=tuple(trace.lineage(log.run_number)),
        began=began,
        bits=bits,
    )
