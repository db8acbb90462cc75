"""The event log, folded into what a screen needs to know. Live, replay and tests differ only in who appends."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Literal

from tui_entropy.knobs import KNOBS, shown
from tui_entropy.records import (
    SCORES,
    AttentionRows,
    Continued,
    Ended,
    Event,
    Failed,
    Knobs,
    KnobsChanged,
    Memory,
    ModelCard,
    Paused,
    Prefilled,
    Progress,
    PromptScores,
    Ready,
    Refused,
    Started,
    Step,
    Vector,
    VectorsChanged,
)
from tui_entropy.steps import Steps

State = Literal["starting", "loading", "ready", "reading", "writing", "paused", "ended", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that a person changed while the text was being written."""

    index: int
    """The first step that it acts on."""
    label: str


@dataclass(slots=True)
class Log:
    """Everything known so far. Only `append` and `lose` change it; views read."""

    state: State = "starting"
    note: str = ""
    """Why it is in this state: the reason of a pause, an end, a failure."""
    progress: Progress | None = None
    card: ModelCard | None = None
    trace: str | None = None
    """The file that the engine records in."""
    started: Started | None = None
    prefilled: Prefilled | None = None
    prompt_scores: dict[str, array[float]] = field(default_factory=dict)
    """One of SCORES -> its value for each token of the prompt (nats where it is information), NaN while unknown."""
    steps: Steps = field(default_factory=Steps)
    marks: list[Mark] = field(default_factory=list)
    knobs: Knobs = field(default_factory=Knobs)
    """As applied by the engine."""
    turned: list[tuple[int, Knobs]] = field(default_factory=list)
    """(first step they act on, knobs) of this run, oldest first."""
    vectors: tuple[Vector, ...] = ()
    """As applied by the engine."""
    memory: Memory | None = None
    attention: AttentionRows | None = None
    refusal: str = ""
    """The last command that was not obeyed, and why."""

    @property
    def run(self) -> int:
        return self.started.run if self.started else 0

    @property
    def context_used(self) -> int:
        return len(self.started.pieces) + len(self.steps) if self.started else 0

    @property
    def prompt_perplexity(self) -> float | None:
        """exp of the mean surprisal of the prompt's tokens, as far as they are scored."""
        known = [nats for nats in self.prompt_scores.get("surprisal", ()) if not math.isnan(nats)]
        return math.exp(min(sum(known) / len(known), 700)) if known else None

    def knobs_at(self, index: int) -> Knobs:
        """Those that a step was drawn with."""
        return next((knobs for first, knobs in reversed(self.turned) if first <= index), self.knobs)

    def append(self, event: Event) -> None:
        """Take one event in. What belongs to an earlier run is passed over."""
        if getattr(event, "run", self.run) != self.run and not isinstance(event, Started):
            return
        match event:
            case Step():
                self.steps.append(event)
                if self.state == "reading":
                    self.state = "writing"
            case Progress():
                self.state, self.progress = "loading", event
            case Ready():
                self.state, self.note = "ready", ""
                self.card, self.vectors, self.trace = event.card, event.vectors, event.trace
            case Started():
                self._begin(event)
            case Prefilled():
                self.prefilled = event
            case PromptScores():
                for at, row in enumerate(event.scores.rows(), event.first):
                    for name, value in zip(SCORES, row, strict=True):
                        self.prompt_scores[name][at] = value
            case KnobsChanged():
                self.marks += [Mark(event.index, label) for label in knob_changes(self.knobs, event.knobs)]
                self.knobs = event.knobs
                self.turned.append((event.index, event.knobs))
            case VectorsChanged():
                changes = vector_changes(self.vectors, event.vectors)
                self.marks += [Mark(event.index, label) for label in changes]
                self.vectors = event.vectors
            case Paused():
                self.state, self.note = "paused", event.reason
            case Continued():
                self.state, self.note = "writing" if self.steps else "reading", ""
            case Ended():
                self.state, self.note = "ended", event.reason
            case Failed():
                self.state, self.note = "failed", event.sentence
            case Refused():
                self.refusal = event.sentence
            case Memory():
                self.memory = event
            case AttentionRows():
                self.attention = event

    def lose(self, why: str) -> None:
        """The engine is gone; what it said stays."""
        self.state, self.note = "lost", why

    def _begin(self, started: Started) -> None:
        self.state, self.note, self.started = "reading", "", started
        self.prefilled = self.attention = None
        self.prompt_scores = {name: array("d", [math.nan]) * len(started.pieces) for name in SCORES}
        self.knobs, self.vectors = started.knobs, started.vectors
        self.turned = [(0, started.knobs)]
        self.steps, self.marks = Steps(), []

    def tokens_per_second(self, window: int = 20) -> float | None:
        """Over the last `window` steps, pauses not counted. None before the second step."""
        recent = self.steps.at[-window - 1 :]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return None
        return (len(recent) - 1) / (recent[-1] - recent[0])


SHORT_NAMES = {knob.name: knob.short for knob in KNOBS}
"""A knob or a stage of the chain, as a screen names it."""


def knob_changes(before: Knobs, after: Knobs) -> list[str]:
    """One phrase for each knob that differs, such as 'T 0.7→1.2'."""
    return [
        f"{short} {shown(before, name)}→{shown(after, name)}"
        for name, short in SHORT_NAMES.items()
        if getattr(before, name) != getattr(after, name)
    ]


def vector_changes(before: tuple[Vector, ...], after: tuple[Vector, ...]) -> list[str]:
    """One phrase for each vector whose effect differs, such as 'warm on +1' or 'warm off'."""
    old = {vector.name: vector for vector in before}
    changes = []
    for vector in after:
        was = old.get(vector.name)
        was_on = was is not None and was.on
        if vector.on and (not was_on or was != vector):
            changes.append(
                f"{vector.name} {vector.strength:+g}" if was_on else f"{vector.name} on {vector.strength:+g}"
            )
        elif was_on and not vector.on:
            changes.append(f"{vector.name} off")
    return changes
