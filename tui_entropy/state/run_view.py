"""One run as a viewer sees it: its steps, its marks, what is set."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from tui_entropy.metrics.registry import SCORES
from tui_entropy.records.events import (
    Continued,
    Ended,
    Event,
    KnobsChanged,
    NextTokens,
    Paused,
    Prefilled,
    PromptScores,
    Proposed,
    SettingsPending,
    ShadowChanged,
    Started,
    VectorsChanged,
    WatchesChanged,
)
from tui_entropy.records.knobs import KNOBS, brief
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane, Vector, Watch
from tui_entropy.records.step import Step
from tui_entropy.state.step_store import StepStore

State = Literal["starting", "loading", "ready", "reading", "writing", "paused", "ended", "failed", "lost"]


FORCED = "forced"
"""The label of a mark where tokens are written whatever the model says."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that a person changed while the text was being written."""

    index: int
    """The first step that it acts on."""
    label: str


@dataclass(slots=True)
class RunView:
    """One run or branch: what was read, written and changed in it, what it shares with its parent included."""

    started: Started
    prefilled: Prefilled | None = None
    prompt_scores: dict[str, array[float]] = field(default_factory=dict)
    """One of SCORES -> its value for each token of the prompt (nats where it is information), NaN while unknown."""
    steps: StepStore = field(default_factory=StepStore)
    marks: list[Mark] = field(default_factory=list)
    knobs: Knobs = field(default_factory=Knobs)
    """As applied by the engine."""
    knob_changes: list[tuple[int, Knobs]] = field(default_factory=list)
    """(first step they act on, knobs), oldest first."""
    vectors: tuple[Vector, ...] = ()
    """As applied by the engine."""
    vector_changes: list[VectorsChanged] = field(default_factory=list)
    """Each time that vectors changed, oldest first; the first is as the run began."""
    pending: SettingsPending | None = None
    """What is set and acts from the next step on; None where nothing was set since the newest one."""
    watches: tuple[Watch, ...] = ()
    shadow: Lane | None = None
    shadow_how: str = ""
    breakpoint_hits: list[int] = field(default_factory=list)
    """The steps that breakpoints stopped at, ascending."""
    proposed: Step | None = None
    """At a stop: what comes next if nothing is changed."""
    answers: dict[tuple[str, int], ProbeAnswer] = field(default_factory=dict)
    """(probe, position) -> its newest answer there, of those that are part of what happened."""
    ended: str | None = None
    """Why, where it has."""
    failed: bool = False
    """It ended as Ended.failed has it."""
    name: str = ""
    starred: bool = False
    deleted: bool = False

    @classmethod
    def begun(cls, started: Started, parent: RunView | None) -> RunView:
        n = started.shared if parent else 0
        run = cls(
            started,
            prompt_scores={name: array("d", [math.nan]) * len(started.prompt_tokens) for name in SCORES},
            knobs=started.knobs,
            knob_changes=[(n, started.knobs)],
            vectors=started.vectors,
            vector_changes=[VectorsChanged(started.run, n, started.vectors)],
        )
        if parent is None:
            return run
        run.watches, run.shadow, run.shadow_how = parent.watches, parent.shadow, parent.shadow_how
        if started.prompt_tokens != parent.started.prompt_tokens:
            return run
        run.started = replace(
            started, prompt_tokens=parent.started.prompt_tokens
        )  # one of them, however many branches there are
        run.prefilled, run.prompt_scores = parent.prefilled, parent.prompt_scores
        if n:
            run.steps = parent.steps.first(n)
            run.knob_changes = [(at, knobs) for at, knobs in parent.knob_changes if at < n] + run.knob_changes
            run.vector_changes = [change for change in parent.vector_changes if change.index < n] + run.vector_changes
            run.marks = [mark for mark in parent.marks if mark.index < n]
            run.breakpoint_hits = [at for at in parent.breakpoint_hits if at < n]
        fork = len(started.prompt_tokens) + n
        run.answers = {key: answer for key, answer in parent.answers.items() if key[1] < fork}
        run.marks.append(Mark(n, f"branch of run {started.parent}"))
        return run

    def vectors_at(self, index: int) -> tuple[Vector, ...]:
        """As they were set for a step, from 0 on."""
        return next((at.vectors for at in reversed(self.vector_changes) if at.index <= index), self.started.vectors)

    def is_read(self, n_steps: int) -> bool:
        """The first so many steps are of a text that was there already, and it goes on behind them."""
        return n_steps < self.started.n_given

    def append(self, event: Event) -> None:
        """Take in what happened to this run."""
        match event:
            case Step():
                begins = event.forced and not (self.steps and self.steps[-1].forced)
                if begins and (mark := Mark(event.index, FORCED)) not in self.marks:
                    self.marks.append(mark)
                self.steps.append(event)
                self.proposed = None
            case NextTokens():
                mark = Mark(event.index, FORCED)
                self.marks = [one for one in self.marks if one != mark] + [mark] * bool(event.forced)
            case Proposed():
                self.proposed = event.step
            case ProbeAnswer() if event.record:
                self.answers[event.name, event.position] = event
            case Prefilled() if self.prefilled is None or self.prefilled.done < self.prefilled.total:
                self.prefilled = event
            case PromptScores():
                for at, row in enumerate(event.scores.rows(), event.first):
                    for name, value in zip(event.names, row, strict=True):
                        if name in self.prompt_scores:
                            self.prompt_scores[name][at] = value
            case SettingsPending():
                self.pending = event
            case KnobsChanged():
                self.pending = None
                self.marks += [Mark(event.index, label) for label in knob_changes(self.knobs, event.knobs)]
                self.knobs = event.knobs
                self.knob_changes.append((event.index, event.knobs))
            case VectorsChanged():
                self.pending = None
                how = ", read again" if event.rebuilt else ""
                changes = vector_changes(self.vectors, event.vectors)
                self.marks += [Mark(event.index, label + how) for label in changes]
                self.vectors = event.vectors
                self.vector_changes.append(event)
            case WatchesChanged():
                self.watches = event.watches
            case ShadowChanged():
                self.shadow, self.shadow_how = event.lane, event.how
                self.marks.append(Mark(event.index, f"shadow {event.lane.name}" if event.lane else "no shadow"))
            case Paused() | Continued():
                self.ended = None
                if isinstance(event, Paused) and event.breakpoint is not None:
                    self.breakpoint_hits = sorted({*self.breakpoint_hits, len(self.steps)})
            case Ended():
                self.ended, self.failed, self.proposed = event.reason, event.failed, None


NOTHING = RunView(Started(0, "", None, False, (), Knobs(), (), 0))
"""Before the first run. Nothing is ever appended to it."""


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
            changes.append(f"{vector.name} {vector.amount}" if was_on else f"{vector.name} on {vector.amount}")
        elif was_on and not vector.on:
            changes.append(f"{vector.name} off")
    return changes


def changes(run: RunView, parent: RunView) -> list[str]:
    """The settings that differ from its parent's, or from the lane beside it, where a run began."""
    at = run.started.shared
    knobs = next((knobs for first, knobs in reversed(parent.knob_changes) if first <= at), parent.started.knobs)
    vectors = vector_changes(parent.vectors_at(at), run.started.vectors)
    return [*knob_changes(knobs, run.started.knobs), *vectors]
