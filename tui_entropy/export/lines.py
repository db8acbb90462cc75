"""JSON lines: what `run --headless --jsonl` writes while it runs."""

from __future__ import annotations

from itertools import chain
from typing import BinaryIO

from tui_entropy import jsonl
from tui_entropy.export.recording import Recording
from tui_entropy.records import Ended


def write(recording: Recording, file: BinaryIO) -> None:
    before = (event for event in recording.events if not isinstance(event, Ended))
    after = (event for event in recording.events if isinstance(event, Ended))
    for event in chain(before, recording.log.steps, after):
        if line := jsonl.line(event, recording.card, recording.log):
            file.write(line)
