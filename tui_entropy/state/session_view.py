"""The event log, folded into what a screen needs to know. Live, replay and tests differ only in who appends."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field

from tui_entropy.records.events import (
    AttentionRows,
    BreakpointsChanged,
    Continued,
    Ended,
    Event,
    Failed,
    Fanned,
    Labelled,
    Memory,
    Paused,
    Prefilled,
    Progress,
    Ready,
    Refused,
    Started,
    Switched,
)
from tui_entropy.records.model import ModelCard
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Vector
from tui_entropy.records.step import Step
from tui_entropy.state.run_view import NOTHING, Mark, RunLog, State
from tui_entropy.state.step_store import Steps


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
