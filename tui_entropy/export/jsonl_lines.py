"""JSON lines: what `run --headless --jsonl` writes while it runs. A branch comes with all that it goes on from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from tui_entropy.export.recorded_run import Recording
from tui_entropy.records.events import Ended, Event, Switched
from tui_entropy.trace import jsonl


def write(recording: Recording, file: BinaryIO) -> None:
    for event in _events(recording):
        if line := jsonl.line(event, recording.card, recording.log):
            file.write(line)


def _events(recording: Recording) -> Iterator[Event]:
    """The events of each run: what it was told before its steps, its steps, and at last why the newest one ended."""
    steps, left_out = recording.log.steps, (Ended, Switched)
    for run, first, last in recording.lineage:
        yield from (event for event in recording.events(run) if not isinstance(event, left_out))
        yield from (steps[index] for index in range(first, last))
    yield from (event for event in recording.events(recording.log.run_number) if isinstance(event, Ended))
