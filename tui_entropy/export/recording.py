"""What an export is made from: one run as it was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tui_entropy.errors import UserError
from tui_entropy.log import Log
from tui_entropy.records import Event, ModelCard, Started
from tui_entropy.trace import Trace


@dataclass(frozen=True, slots=True)
class Recording:
    trace: Trace
    card: ModelCard
    started: Started
    log: Log
    """Of the whole run. Its steps are read as they are asked for: go through them once."""
    events: tuple[Event, ...]
    """Of this run, in order; without its steps."""
    began: float
    """Wall clock, seconds since 1970."""
    bits: bool = False
    """Whether pictures show information in bits; tables are always in nats."""

    @property
    def labels(self) -> dict[int, str]:
        """First step that something changed acts on -> what changed, as 'T 0.7→1.2; warm on +1'."""
        found: dict[int, list[str]] = {}
        for mark in self.log.marks:
            found.setdefault(mark.index, []).append(mark.label)
        return {index: "; ".join(labels) for index, labels in found.items()}


def opened(path: Path, run: int | None, bits: bool) -> Recording:
    """A run of a trace file, the newest by default. Raises UserError."""
    trace = Trace.open(path)
    log = trace.log(run)
    if log.started is None:
        raise UserError(f"{path} holds no run that could be exported: write one first, or give another file")
    if log.card is None:
        raise UserError(f"{path} does not say which model wrote it, that part is damaged: give another file")
    events = list(trace.events(log.run))
    began = next(wall for _, wall, event in events if isinstance(event, Started))
    return Recording(trace, log.card, log.started, log, tuple(event for *_, event in events), began, bits)
