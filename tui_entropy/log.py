"""The event log, folded into what a screen needs to know. Live, replay and tests differ only in who appends."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from tui_entropy.knobs import KNOBS, brief
from tui_entropy.records import (
    SCORES,
    AttentionRows,
    Breakpoint,
    BreakpointsChanged,
    Continued,
    Ended,
    Event,
    Failed,
    Fanned,
    Knobs,
    KnobsChanged,
    Labelled,
    Lane,
    Memory,
    ModelCard,
    Paused,
    Prefilled,
    Progress,
    PromptScores,
    Proposed,
    Ready,
    Reconsidered,
    Refused,
    ShadowChanged,
    Started,
    Step,
    Switched,
    Vector,
    VectorsChanged,
    Watch,
    WatchesChanged,
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
class RunLog:
    """One run or branch: what was read, written and changed in it, what it shares with its parent included."""

    started: Started
    prefilled: Prefilled | None = None
    prompt_scores: dict[str, array[float]] = field(default_factory=dict)
    """One of SCORES -> its value for each token of the prompt (nats where it is information), NaN while unknown."""
    steps: Steps = field(default_factory=Steps)
    marks: list[Mark] = field(default_factory=list)
    knobs: Knobs = field(default_factory=Knobs)
    """As applied by the engine."""
    turned: list[tuple[int, Knobs]] = field(default_factory=list)
    """(first step they act on, knobs), oldest first."""
    vectors: tuple[Vector, ...] = ()
    """As applied by the engine."""
    toggled: list[VectorsChanged] = field(default_factory=list)
    """Each time that vectors changed, oldest first; the first is as the run began."""
    watches: tuple[Watch, ...] = ()
    shadow: Lane | None = None
    shadow_how: str = ""
    proposed: Step | None = None
    """At a stop: what comes next if nothing is changed."""
    reconsidered: Step | None = None
    """An earlier step, as it would be with other knobs."""
    ended: str | None = None
    """Why, where it has."""
    name: str = ""
    starred: bool = False
    deleted: bool = False

    @classmethod
    def begun(cls, started: Started, parent: RunLog | None) -> RunLog:
        n = started.shared if parent else 0
        told = cls(
            started,
            prompt_scores={name: array("d", [math.nan]) * len(started.pieces) for name in SCORES},
            knobs=started.knobs,
            turned=[(n, started.knobs)],
            vectors=started.vectors,
            toggled=[VectorsChanged(started.run, n, started.vectors)],
        )
        if parent is None:
            return told
        told.watches, told.shadow, told.shadow_how = parent.watches, parent.shadow, parent.shadow_how
        if started.pieces != parent.started.pieces:
            return told
        told.started = replace(started, pieces=parent.started.pieces)  # one of them, however many branches there are
        told.prefilled, told.prompt_scores = parent.prefilled, parent.prompt_scores
        if n:
            told.steps = parent.steps.first(n)
            told.turned = [(at, knobs) for at, knobs in parent.turned if at < n] + told.turned
            told.toggled = [change for change in parent.toggled if change.index < n] + told.toggled
            told.marks = [mark for mark in parent.marks if mark.index < n]
        told.marks.append(Mark(n, f"branch of run {started.parent}"))
        return told

    def append(self, event: Event) -> None:
        """Take in what happened to this run."""
        match event:
            case Step():
                if event.forced and not (self.steps and self.steps[-1].forced):
                    self.marks.append(Mark(event.index, "forced"))
                self.steps.append(event)
                self.proposed = None
            case Proposed():
                self.proposed = event.step
            case Reconsidered():
                self.reconsidered = event.step
            case Prefilled() if self.prefilled is None or self.prefilled.done < self.prefilled.total:
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
                how = ", read again" if event.rebuilt else ""
                changes = vector_changes(self.vectors, event.vectors)
                self.marks += [Mark(event.index, label + how) for label in changes]
                self.vectors = event.vectors
                self.toggled.append(event)
            case WatchesChanged():
                self.watches = event.watches
            case ShadowChanged():
                self.shadow, self.shadow_how = event.lane, event.how
                self.marks.append(Mark(event.index, f"shadow {event.lane.name}" if event.lane else "no shadow"))
            case Ended():
                self.ended, self.proposed = event.reason, None


NOTHING = RunLog(Started(0, "", None, False, (), Knobs(), (), 0))
"""Before the first run. Nothing is ever appended to it."""


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
    rewinds: str = ""
    """How this model goes back in a text."""
    runs: dict[int, RunLog] = field(default_factory=dict)
    """Every run, in the order they began."""
    now: RunLog = field(default_factory=lambda: RunLog(NOTHING.started))
    """The run that is looked at."""
    twin: RunLog | None = None
    """The one that is written beside it."""
    breakpoints: tuple[Breakpoint, ...] = ()
    stopped_by: int | None = None
    """The id of the breakpoint that the pause is due to."""
    fan: Fanned | None = None
    memory: Memory | None = None
    attention: AttentionRows | None = None
    refusal: str = ""
    """The last command that was not obeyed, and why."""

    @property
    def run(self) -> int:
        return self.now.started.run

    @property
    def started(self) -> Started | None:
        return self.now.started if self.run else None

    @property
    def prefilled(self) -> Prefilled | None:
        return self.now.prefilled

    @property
    def prompt_scores(self) -> dict[str, array[float]]:
        return self.now.prompt_scores

    @property
    def steps(self) -> Steps:
        return self.now.steps

    @property
    def marks(self) -> list[Mark]:
        return self.now.marks

    @property
    def knobs(self) -> Knobs:
        return self.now.knobs

    @property
    def turned(self) -> list[tuple[int, Knobs]]:
        return self.now.turned

    @property
    def vectors(self) -> tuple[Vector, ...]:
        return self.now.vectors

    @property
    def proposed(self) -> Step | None:
        return self.now.proposed

    @property
    def context_used(self) -> int:
        return len(self.now.started.pieces) + len(self.steps)

    @property
    def prompt_perplexity(self) -> float | None:
        """exp of the mean surprisal of the prompt's tokens, as far as they are scored."""
        known = [nats for nats in self.prompt_scores.get("surprisal", ()) if not math.isnan(nats)]
        return math.exp(min(sum(known) / len(known), 700)) if known else None

    def knobs_at(self, index: int) -> Knobs:
        """Those that a step was drawn with."""
        return next((knobs for first, knobs in reversed(self.turned) if first <= index), self.knobs)

    def append(self, event: Event) -> None:
        """Take one event in. What belongs to a run that is not known is passed over."""
        if isinstance(event, Started):
            self._begin(event)
            return
        told = self.runs.get(getattr(event, "run", self.run), self.now)
        if getattr(event, "run", told.started.run) != told.started.run:
            return
        told.append(event)
        if told is self.now or isinstance(event, Switched):
            self._heed(event)

    def _heed(self, event: Event) -> None:
        """What it means for the whole screen."""
        match event:
            case Step() if self.state == "reading":
                self.state = "writing"
            case Progress():
                self.state, self.progress = "loading", event
            case Ready():
                self.state, self.note = "ready", ""
                self.card, self.trace, self.rewinds = event.card, event.trace, event.rewinds
                self.runs, self.now.vectors = {}, event.vectors  # another engine counts from one again
            case Paused():
                self.state, self.note, self.stopped_by = "paused", event.reason, event.breakpoint
            case Continued():
                self.state, self.note, self.stopped_by = "writing" if self.steps else "reading", "", None
            case Ended():
                self.state, self.note = "ended", event.reason
            case Failed():
                self.state, self.note, self.now.proposed = "failed", event.sentence, None
            case Refused():
                self.refusal = event.sentence
            case Memory():
                self.memory = event
            case AttentionRows():
                self.attention = event
            case BreakpointsChanged():
                self.breakpoints = event.breakpoints
            case Fanned():
                self.fan = event
            case Switched():
                self._look_at(self.runs.get(event.run, self.now))
            case Labelled() if event.branch in self.runs:
                told = self.runs[event.branch]
                told.name, told.starred, told.deleted = event.name, event.starred, event.deleted

    def lose(self, why: str) -> None:
        """The engine is gone; what it said stays."""
        self.state, self.note, self.now.proposed = "lost", why, None

    def _begin(self, started: Started) -> None:
        parent = self.runs.get(started.parent) if started.parent is not None else None
        told = RunLog.begun(started, parent)
        self.runs[started.run] = told
        if started.twin_of == self.run and self.run:
            self.twin = told
            return
        self._look_at(told)
        self.state, self.note = "reading", ""

    def _look_at(self, told: RunLog) -> None:
        self.now, self.attention, self.fan, self.twin, self.stopped_by = told, None, None, None, None
        self.state, self.note = ("paused", "") if told.ended is None else ("ended", told.ended)

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
        f"{short} {brief(before, name)}→{brief(after, name)}"
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


def changes(told: RunLog, parent: RunLog) -> list[str]:
    """What was set otherwise than in its parent, or in the lane beside it, where a run began."""
    at = told.started.shared
    knobs = next((knobs for first, knobs in reversed(parent.turned) if first <= at), parent.started.knobs)
    set_then = [change.vectors for change in parent.toggled if change.index <= at]
    vectors = set_then[-1] if set_then else parent.started.vectors
    return [*knob_changes(knobs, told.started.knobs), *vector_changes(vectors, told.started.vectors)]
