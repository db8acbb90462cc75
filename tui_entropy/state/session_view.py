"""The event log, folded into what a screen needs to know. Live, replay and tests differ only in who appends."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from tui_entropy.records.events import (
    STOPPED,
    BreakpointsChanged,
    Continued,
    Ended,
    Event,
    Failed,
    HeadSelected,
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
from tui_entropy.records.probes.ask import ProbeAnswer, ProbeInfo, ProbeProgress
from tui_entropy.records.probes.attention_rows import ATTENTION_ROWS, AttentionRows
from tui_entropy.records.probes.continuations import CONTINUATIONS, SampledContinuations
from tui_entropy.records.probes.head_patterns import HEAD_PATTERNS, HeadPatterns
from tui_entropy.records.probes.panels import steps_of
from tui_entropy.records.probes.visit import VISIT
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Vector
from tui_entropy.records.source import Capabilities
from tui_entropy.records.step import Step
from tui_entropy.state.run_view import NOTHING, Mark, RunView, State
from tui_entropy.state.step_store import StepStore

Standing = tuple[State, str, int | None]


@dataclass(slots=True)
class SessionView:
    """Everything known so far. It changes by events, and by nothing but its own methods; views read."""

    state: State = "starting"
    note: str = ""
    """Why it is in this state: the reason of a pause, an end, a failure."""
    progress: Progress | None = None
    card: ModelCard | None = None
    trace: str | None = None
    """The file that the engine records in."""
    rewinds: str = ""
    """How this model goes back in a text."""
    runs: dict[int, RunView] = field(default_factory=dict)
    """Every run, in the order they began."""
    run: RunView = field(default_factory=lambda: RunView(NOTHING.started))
    """The run that is looked at."""
    twin: RunView | None = None
    """The one that is written beside it."""
    breakpoints: tuple[Breakpoint, ...] = ()
    stopped_by: int | None = None
    """The id of the breakpoint that the pause is due to."""
    reads_again: bool = False
    """What a recording has is read again, before anything is written behind it."""
    head: HeadSelected | None = None
    """Whose attention rows the newest steps have with them beside the means."""
    memory: Memory | None = None
    probes: tuple[ProbeInfo, ...] = ()
    """Which questions the engine can answer."""
    capabilities: Capabilities = field(default_factory=Capabilities)
    """What the engine can be told."""
    answers: dict[str, ProbeAnswer] = field(default_factory=dict)
    """The newest answer of each probe, of the run that is looked at."""
    probe_progress: ProbeProgress | None = None
    """Of the one that is computed now."""
    refusal: str = ""
    """The last command that was not obeyed, and why."""
    endpoint: str = ""
    """The base URL at which the engine takes requests of applications; empty for none."""
    follows: bool = True
    """Of requests that pass through a proxy, which do not wait for each other: the next one to come is looked at once
    the present one is over. Not where a person went to one that is not the newest."""

    @property
    def proxied(self) -> bool:
        """Each run is a request that passes to a server, which nobody here can act on."""
        return self.card is not None and self.card.server is not None and self.card.server.proxied

    @property
    def given_knobs(self) -> frozenset[str] | None:
        """The knobs that the request of a run that passes through a proxy says something of; None where all count."""
        given = self.run.started.given_knobs
        return frozenset() if given is None and self.proxied else None if given is None else frozenset(given)

    @property
    def n_open(self) -> int:
        """Requests on their way through a proxy."""
        return sum(run.ended is None for run in self.runs.values()) if self.proxied else 0

    @property
    def run_number(self) -> int:
        return self.run.started.run

    @property
    def started(self) -> Started | None:
        return self.run.started if self.run_number else None

    @property
    def prefilled(self) -> Prefilled | None:
        return self.run.prefilled

    @property
    def prompt_scores(self) -> dict[str, array[float]]:
        return self.run.prompt_scores

    @property
    def steps(self) -> StepStore:
        return self.run.steps

    @property
    def marks(self) -> list[Mark]:
        return self.run.marks

    @property
    def stopped(self) -> bool:
        """A person ended the text, and can go on with it."""
        return self.state == "ended" and self.run.ended == STOPPED

    @property
    def knobs(self) -> Knobs:
        return self.run.knobs

    @property
    def knob_changes(self) -> list[tuple[int, Knobs]]:
        return self.run.knob_changes

    @property
    def vectors(self) -> tuple[Vector, ...]:
        return self.run.vectors

    @property
    def set_knobs(self) -> Knobs:
        """The knobs of the next step."""
        return self.run.pending.knobs if self.run.pending else self.run.knobs

    @property
    def set_vectors(self) -> tuple[Vector, ...]:
        """The vectors of the next step."""
        return self.run.pending.vectors if self.run.pending else self.run.vectors

    @property
    def proposed(self) -> Step | None:
        return self.run.proposed

    @property
    def sampled(self) -> SampledContinuations | None:
        """The newest continuations."""
        return _read(SampledContinuations, self.answers.get(CONTINUATIONS))

    @property
    def attention(self) -> AttentionRows | None:
        """The newest rows."""
        return _read(AttentionRows, self.answers.get(ATTENTION_ROWS))

    def head_patterns(self, position: int) -> HeadPatterns | None:
        """The newest ones of the run that are known up to a position, else the first ones."""
        known = sorted(at for name, at in self.run.answers if name == HEAD_PATTERNS)
        at = max((one for one in known if one <= position), default=known[0] if known else None)
        return None if at is None else _read(HeadPatterns, self.run.answers[HEAD_PATTERNS, at])

    def visited(self, step: Step) -> Step:
        """A step of the present run with all that its own pass tells, where its token was visited; else as it is."""
        answer = self.run.answers.get((VISIT, step.position))
        found = steps_of(answer.panels) if answer else []
        return found[0] if found and found[0].token_id == step.token_id else step

    @property
    def context_used(self) -> int:
        return len(self.run.started.prompt_tokens) + len(self.steps)

    @property
    def prompt_perplexity(self) -> float | None:
        """exp of the mean surprisal of the prompt's tokens, as far as they are scored."""
        known = [nats for nats in self.prompt_scores.get("surprisal", ()) if not math.isnan(nats)]
        return math.exp(min(sum(known) / len(known), 700)) if known else None

    def knobs_at(self, index: int) -> Knobs:
        """The knobs that a step was drawn with."""
        return next((knobs for first, knobs in reversed(self.knob_changes) if first <= index), self.knobs)

    def append(self, event: Event, stay: bool = False) -> None:
        """Take one event in. What belongs to a run that is not known is passed over. stay: whether a person looks at
        a token, so that no request that passes through a proxy takes the place of its run."""
        if isinstance(event, Started):
            self._begin(event, stay)
            return
        run = self.runs.get(getattr(event, "run", self.run_number), self.run)
        if getattr(event, "run", run.started.run) != run.started.run:
            return
        run.append(event)
        if run is self.run or isinstance(event, Switched):
            self._heed(event)

    def _heed(self, event: Event) -> None:
        """Take in what an event means for the whole screen."""
        match event:
            case Step() if self.state == "reading" and not self.run.is_read(event.index + 1):
                self.state, self.reads_again = "writing", False
            case Progress():
                self.state, self.progress = "loading", event
            case Ready():
                self.state, self.note = "ready", ""
                self.card, self.trace, self.rewinds = event.card, event.trace, event.rewinds
                self.probes, self.capabilities, self.endpoint = event.probes, event.capabilities, event.endpoint
                if event.recording:
                    self.reads_again = True
                    for run in self.runs.values():
                        run.prefilled = None
                else:
                    self.runs, self.run.vectors = {}, event.vectors  # another engine counts from one again
                    self.head = None
            case Paused():
                self.state, self.note, self.stopped_by = "paused", event.reason, event.breakpoint
                self.reads_again = False
            case Continued():
                self.state, self.note, self.stopped_by = "writing" if self._writes else "reading", "", None
            case Ended():
                self.state, self.note = "ended", event.reason
            case Failed():
                self.state, self.note, self.run.proposed = "failed", event.sentence, None
            case Refused():
                self.refusal, self.probe_progress = event.sentence, None
            case HeadSelected():
                self.head = event
            case Memory():
                self.memory = event
            case ProbeAnswer():
                self.answers[event.name], self.probe_progress = event, None
            case ProbeProgress():
                self.probe_progress = event
            case BreakpointsChanged():
                self.breakpoints = event.breakpoints
            case Switched():
                self._look_at(self.runs.get(event.run, self.run))
                self.follows = self.run_number == max(self.runs, default=0)
            case Labelled() if event.branch in self.runs:
                run = self.runs[event.branch]
                run.name, run.starred, run.deleted = event.name, event.starred, event.deleted

    def lose(self, why: str) -> None:
        """The engine is gone; what it said stays."""
        self.state, self.note, self.run.proposed = "lost", why, None

    # --- Where steps and time come from a recording ------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """The state, why it is so, and the breakpoint that the pause is due to."""
        return self.state, self.note, self.stopped_by

    def restore(self, standing: Standing) -> None:
        """Stand as it did at another moment of the same events."""
        self.state, self.note, self.stopped_by = standing

    def hold(self) -> None:
        """Time stands still, without anything having happened."""
        self.state, self.note = "paused", ""

    def finish(self, note: str) -> None:
        """Nothing comes any more. What ended or failed by itself stays as it is."""
        if self.state not in ("ended", "failed"):
            self.state, self.note = "ended", note

    def read_steps(self, run: int, steps: StepStore) -> None:
        """The steps of a run are these from now on, which come by themselves and not with events."""
        self.runs[run].steps = steps

    def has_step(self) -> None:
        """A step of the present run has come by itself."""
        if self.state == "reading" and self._writes:
            self.state = "writing"

    @property
    def _writes(self) -> bool:
        """The newest step is one of those that are written, and not of a text that was there or is read again."""
        return bool(self.steps) and not (self.reads_again or self.run.is_read(len(self.steps)))

    def include(self, runs: Mapping[int, RunView]) -> None:
        """Know of these runs too, in this order."""
        self.runs = {number: self.runs.get(number, run) for number, run in runs.items()}

    def _begin(self, started: Started, stay: bool) -> None:
        parent = self.runs.get(started.parent) if started.parent is not None else None
        run = RunView.begun(started, parent)
        self.runs[started.run] = run
        if started.twin_of == self.run_number and self.run_number:
            self.twin = run
            return
        if self.proxied and self.run_number and (stay or not self.follows or self.run.ended is None):
            return
        self._look_at(run)
        self.state, self.note = "reading", ""

    def _look_at(self, run: RunView) -> None:
        self.run, self.answers, self.twin, self.stopped_by = run, {}, None, None
        run.pending = None  # what was set in a run is set again with it
        self.state, self.note = ("paused", "") if run.ended is None else ("ended", run.ended)

    def tokens_per_second(self, window: int = 20) -> float | None:
        """Over the last `window` steps, pauses not counted. None before the second step."""
        recent = self.steps.at[-window - 1 :]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return None
        return (len(recent) - 1) / (recent[-1] - recent[0])


Answer = TypeVar("Answer", AttentionRows, HeadPatterns, SampledContinuations)


def _read(kind: type[Answer], answer: ProbeAnswer | None) -> Answer | None:
    """An answer as its record; None for none, and for one that is not of this kind."""
    if answer is None:
        return None
    with suppress(ValueError):
        return kind.of(answer)
    return None
