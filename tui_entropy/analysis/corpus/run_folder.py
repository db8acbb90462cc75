"""The folder of an analysis: the tree of llm_entropy, and a journal beside it while the run is not done.

The journal has the settings, the sentences, the vector, and a line for each sentence that is measured. What is
written at the end follows from it alone, so a run that was killed comes to the same bytes when it is gone on with.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tui_entropy.core.errors import UserError
from tui_entropy.records.corpus.uncertainty import ScoreSettings
from tui_entropy.records.model import ModelSpec

ANALYSES = ("standard", "control", "comparative")
PARTS = ("data", "plots", "predictions")
JOURNAL = ".journal"
SETTINGS = "run.json"
VECTOR = "vector.safetensors"
SUMMARY = "summary.json"


class Sentence(Struct, frozen=True, array_like=True):
    place: str
    text: str
    reason: str = ""
    """Why it is left out; empty for one that is measured."""


class RunSettings(Struct, frozen=True):
    """All that a run follows from, but for its vector."""

    run_id: str
    mode: str
    """'standard', 'control' or 'comparative'."""
    models: dict[str, ModelSpec]
    """By the name that files have of it."""
    temperature: float
    use_sampling: bool
    seed: int
    layer_weights: tuple[float, ...] | None
    token_weights: tuple[float, ...] | None
    pattern: tuple[float, ...] | None
    """A vector that is repeated to the width of each model; None where it is in a file, or where there is none."""
    sentences: tuple[Sentence, ...]
    scores: ScoreSettings | None = None
    """Of uncertainty; None where none is wanted."""

    @property
    def analyses(self) -> tuple[str, ...]:
        """Those that are measured."""
        return {"comparative": ("standard", "control"), "control": ("control",)}.get(self.mode, ("standard",))


class Measured(Struct, frozen=True):
    """A line of the journal."""

    index: int
    values: dict[str, list[float | None]] = {}
    """Metric -> one number for each layer."""
    predictions: list[tuple[str, float]] = []
    reason: str = ""
    """Why this model cannot measure it, where it cannot."""
    scores: dict[str, float | None] = {}
    """Of uncertainty, by name."""


def new_run_id() -> str:
    return f"{time.strftime('%Y%m%d_%H%M%S')}_{secrets.token_hex(4)}"


def label(name: str, taken: Sequence[str] = ()) -> str:
    """What files have of a model's name."""
    short = re.sub(r"[^\w.-]+", "_", name.rstrip("/").rpartition("/")[2]).strip("._") or "model"
    return next(one for one in (short, *(f"{short}_{n}" for n in range(2, 1000))) if one not in taken)


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path, settings: RunSettings) -> None:
        self.path, self.settings = path, settings

    @classmethod
    def create(cls, parent: Path, settings: RunSettings) -> RunFolder:
        """Make the tree. Raises UserError where it cannot be made."""
        path = parent / f"run_{settings.run_id}"
        try:
            for analysis in ANALYSES:
                for part in PARTS:
                    (path / analysis / part).mkdir(parents=True)
            (path / JOURNAL).mkdir()
            _write(path / JOURNAL / SETTINGS, msgspec.json.encode(settings))
        except OSError as refused:
            raise UserError(f"{path} cannot be written ({refused.strerror}): name another folder") from refused
        return cls(path, settings)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run to be gone on with. Raises UserError for a folder that has none, and for one that is done."""
        if (path / SUMMARY).is_file() and not (path / JOURNAL).exists():
            raise UserError(f"{path} is done already: {path / SUMMARY} tells what came of it")
        try:
            settings = msgspec.json.decode((path / JOURNAL / SETTINGS).read_bytes(), type=RunSettings)
        except (OSError, msgspec.DecodeError):
            raise UserError(f"{path} is no run that can be gone on with: name a folder run_... of analyze") from None
        return cls(path, settings)

    @property
    def vector(self) -> Path:
        return self.path / JOURNAL / VECTOR

    def measured(self, model: str, analysis: str) -> dict[int, Measured]:
        """By the index of its sentence, what is in the journal; a line that was not finished is taken off it."""
        file = self._journal(model, analysis)
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return {}
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(file, len(whole))
        try:
            lines = [msgspec.json.decode(line, type=Measured) for line in whole.splitlines()]
        except msgspec.DecodeError:
            raise UserError(f"{file} is damaged: begin the analysis anew") from None
        return {line.index: line for line in lines}

    def keep(self, model: str, analysis: str, lines: Sequence[Measured]) -> None:
        """Add lines to the journal, on disk when this returns."""
        with self._journal(model, analysis).open("ab") as file:
            file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def remove_if_empty(self) -> None:
        """Leave nothing behind of a run in which nothing was measured."""
        names = [(model, analysis) for model in self.settings.models for analysis in self.settings.analyses]
        if not any(line.values for one in names for line in self.measured(*one).values()):
            shutil.rmtree(self.path, ignore_errors=True)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary, and take the journal away."""
        _write(self.path / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n")
        shutil.rmtree(self.path / JOURNAL)

    def _journal(self, model: str, analysis: str) -> Path:
        return self.path / JOURNAL / f"{model}.{analysis}.jsonl"


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing."""
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(data)
    beside.replace(path)
