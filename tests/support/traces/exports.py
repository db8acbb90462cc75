"""Traces of scripted events, and what the small models of tiny.py write, recorded."""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace
from scripted import HEADS, LAYERS, PROMPT, started, step

from tui_entropy.export.recorded_run import Recording, open_recording
from tui_entropy.metrics.registry import SCORES
from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import Ended, Event, KnobsChanged, PromptScores, Ready
from tui_entropy.records.model import ModelCard
from tui_entropy.trace.writer import Recorder

CARD = ModelCard(
    name="tiny", revision=None, source="/models/tiny", note="", device="cpu", dtype="float32", n_layers=LAYERS,
    n_heads=HEADS, n_kv_heads=1, d_model=8, vocab=200, context=64, layer_kinds=("full", "sliding", "linear"),
    windows=(None, 8, None), attention=(True, True, False), has_chat_template=False, versions={"torch": "2"},
)  # fmt: skip
WORDS = (" Paris", "=1+1", "\n", " is", "'s", " 東")


def events(words: Iterable[str] = WORDS, run: int = 1) -> Iterator[Event]:
    """A run of a scored prompt, in which the temperature is turned at the second token."""
    begun = started(run)
    yield begun
    scores = [[(n + position) / 8 for n in range(len(SCORES))] for position in range(1, PROMPT)]
    yield PromptScores(run, 1, Grid.of(scores))
    for index, word in enumerate(words):
        if index == 1:
            yield KnobsChanged(run, 1, replace(begun.knobs, temperature=1.2))
        yield step(index, word, run)
    yield Ended(run, "token limit")


def trace(path: Path, *runs: Iterable[Event], card: ModelCard = CARD) -> Path:
    """A trace file with these runs, or one of `events`."""
    recorder = Recorder(path)
    recorder.take(Ready(card))
    for run in runs or (events(),):
        for event in run:
            recorder.take(event)
    recorder.close()
    return path


def exported(write: Callable[[Recording, BinaryIO], None], path: Path, run: int | None = None) -> bytes:
    file = io.BytesIO()
    write(open_recording(path, run, False), file)
    return file.getvalue()
