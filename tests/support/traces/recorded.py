"""Traces of scripted sessions, as files."""

from collections.abc import Iterable
from pathlib import Path

from cards import CARD
from msgspec.structs import replace
from scripted import started, step

from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import Event, PromptScores, Ready
from tui_entropy.records.step import Step
from tui_entropy.trace.writer import Recorder


def float32(number: float) -> float:
    return Grid.of([number]).view[0]


def on_device(index: int, run: int = 1, word: str = " Paris") -> Step:
    """A scripted step whose numbers are as a device gives them: float32."""
    made = step(index, word, run)
    candidates = tuple(replace(one, logprob=float32(one.logprob)) for one in made.candidates)
    stages = tuple(replace(one, mass=float32(one.mass), entropy=float32(one.entropy)) for one in made.stages)
    return replace(made, candidates=candidates, stages=stages)


def session(*runs: int) -> list[Event]:
    """Ready, and runs of so many steps."""
    events: list[Event] = [Ready(CARD)]
    for run, n in enumerate(runs, 1):
        events += [started(run), PromptScores(run, 1, Grid.of([[1.5] * 7, [2.5] * 7]))]
        events += [on_device(index, run, f" w{index}") for index in range(n)]
    return events


def recorded(path: Path, events: Iterable[Event]) -> Path:
    recorder = Recorder(path)
    for event in events:
        recorder.take(event)
    recorder.close()
    return path
