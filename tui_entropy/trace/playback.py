"""A recorded run, shown as far as it had come: when each token is due, and what a screen knew at that moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Advance, Command, Continue, Go, Pause
from tui_entropy.records.events import Continued, Event, Labelled, Prefilled, Ready, Started, Switched
from tui_entropy.records.source import Capabilities, ability, inability
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView, Standing
from tui_entropy.trace.lazy_steps import LazySteps

if TYPE_CHECKING:
    from tui_entropy.trace.reader import Trace

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
MAX_GAP_S = 2.0
"""Seconds that a pause in the recording lasts at most."""


class Playback:
    """A recording as the source of a screen: it is told what a Source is told, but what happens goes to the log that
    the screen shows, in step with a clock, rather than to an audience as fast as it can.

    Time is the recording's: seconds of work between two tokens, as the engine counted them, and pauses of at most
    MAX_GAP_S.

    run: the one that was looked at last by default. first: how many tokens are there at the beginning, None for all.
    clock: seconds that pass while somebody watches.
    """

    capabilities = Capabilities(commands=("pause", "continue", "advance", "go"))

    def __init__(
        self,
        trace: Trace,
        run: int | None = None,
        *,
        speed: float = 1.0,
        first: int | None = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not trace.runs:
            raise UserError(f"{trace.path} holds no run: there is nothing to show in it")
        self.trace, self.speed, self._clock = trace, speed, clock
        self._whole = trace.log()
        """As everything was in the end."""
        self.choose(self._whole.run_number if run is None else run, first)

    def choose(self, run: int, first: int | None) -> None:
        """Another run, from `first` on. Raises UserError where there is none of that number."""
        if run not in self.trace.runs:
            raise UserError(f"{self.trace.path} has no run {run}: it has {', '.join(map(str, self.trace.runs))}")
        self.run = run
        self._steps = LazySteps(self.trace, run)
        self._seqs, self.length = self.trace.seqs(run), len(self._steps)
        self._at = self._steps.at[:]
        self._has_rows: bool | None = None
        twins = [view.started.run for view in self._whole.runs.values() if view.started.twin_of == run]
        self._others = _others(self.trace, run, twins)
        self.seek(self.length if first is None else first)

    @property
    def has_rows(self) -> bool:
        """Whether steps of the run have attention rows with them, as its first and its last say."""
        if self._has_rows is None:
            ends = {0, self.length - 1} if self.length else ()
            self._has_rows = any(self.trace.step(self.run, at).attention_rows is not None for at in ends)
        return self._has_rows

    def seek(self, n: int) -> None:
        """As it was the moment that n tokens were written; with all of them, as it was left. Plays on from there."""
        self._shown = n = min(max(n, 0), self.length)
        began = next(seq for seq, _, event in self._others if isinstance(event, Started))
        at = self._seqs[n - 1] if n else began
        self._taken = sum(seq <= at or n == self.length for seq, _, _ in self._others)
        self.log = SessionView()
        self._reading: dict[int, float] = {}
        """Run -> seconds for which text has been read for it, at the last word of that."""
        for _, _, event in self._others[: self._taken]:
            self._take(event)
        self._grow(n)
        self._held: Standing | None = None
        self._due: float | None = None
        self._left = 0.0
        if self.at_end:
            self._end()
        else:
            self._due = self._clock() + self._wait() / self.speed

    # --- As a source -----------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """As of a Source."""
        return "ended" if self.at_end else "writing" if self.playing else "paused"

    @property
    def n_written(self) -> int:
        """Tokens that are shown."""
        return self._shown

    def handle(self, command: Command) -> None:
        """Do what a command says, one that its capabilities have. To another run from its beginning, or to its end
        from the end of this one. Raises UserError."""
        match command:
            case Pause():
                self.pause()
            case Continue():
                self.go_on()
            case Advance():
                self.step()
            case Go():
                self.choose(command.run, None if self.at_end else 0)
            case _:
                raise UserError(inability(ability(command)))

    # --- As time goes by -------------------------------------------------------------------------------------

    @property
    def at_end(self) -> bool:
        return self._shown == self.length and self._taken == len(self._others)

    @property
    def playing(self) -> bool:
        return self._due is not None

    @property
    def wait(self) -> float | None:
        """Seconds until something happens, None where nothing will by itself."""
        return None if self._due is None else max(self._due - self._clock(), 0.0)

    def advance(self) -> bool:
        """Whatever has become due; whether anything had."""
        before = self._due
        while self._due is not None and self._due <= self._clock():
            self._happen()
            self._due = None if self.at_end else self._due + self._wait() / self.speed
        return self._due != before

    def pause(self) -> None:
        if self._due is not None:
            self._left = max(self._due - self._clock(), 0.0) * self.speed
            self._due = None
            self._held = self.log.standing
            self.log.hold()

    def go_on(self) -> None:
        if self._due is None and not self.at_end:
            self._release()
            self._due = self._clock() + self._left / self.speed

    def step(self) -> None:
        """To the next token, and pause there."""
        self._release()
        n = self._shown
        while self._shown == n and not self.at_end:
            self._happen()
        if not self.at_end:
            self._due = self._clock() + self._wait() / self.speed
            self.pause()

    @property
    def seconds(self) -> float:
        """Seconds of the recording from its first token to its last, 0 where that is not known."""
        seconds = self._at[-1] - self._at[0] if self.length else 0.0
        return seconds if math.isfinite(seconds) else 0.0

    def set_speed(self, speed: float) -> None:
        if self._due is not None:
            now = self._clock()
            self._due = now + max(self._due - now, 0.0) * self.speed / speed
        self.speed = speed

    def faster(self, by: int) -> None:
        """So many rungs of SPEEDS up; down where negative."""
        rungs = [speed for speed in SPEEDS if (speed > self.speed if by > 0 else speed < self.speed)]
        if rungs:
            self.set_speed(rungs[0] if by > 0 else rungs[-1])

    # --- What happens ----------------------------------------------------------------------------------------

    def _next_is_step(self) -> bool:
        if self._shown == self.length or self._taken == len(self._others):
            return self._shown < self.length
        return self._seqs[self._shown] < self._others[self._taken][0]

    def _wait(self) -> float:
        """Seconds of the recording from what happened last to what comes next."""
        if self._next_is_step():
            seconds = self._at[self._shown] - (self._at[self._shown - 1] if self._shown else self._read_for())
        else:
            _, wall, event = self._others[self._taken]
            match event:
                case Continued():
                    seconds = min(wall - self._others[self._taken - 1][1], MAX_GAP_S)
                case Prefilled():
                    seconds = min(event.seconds - self._reading.get(event.run, 0.0), MAX_GAP_S)
                case _:
                    seconds = 0.0
        return max(seconds, 0.0) if math.isfinite(seconds) else 0.0

    def _read_for(self) -> float:
        return self.log.prefilled.seconds if self.log.prefilled else 0.0

    def _happen(self) -> None:
        if self._next_is_step():
            self._grow(self._shown + 1)
        else:
            self._take(self._others[self._taken][2])
            self._taken += 1
        if self.at_end:
            self._end()

    def _grow(self, n: int) -> None:
        self._shown = self._steps.limit = n
        self._limit_twin()
        if n > self.log.run.started.shared:
            self.log.has_step()

    def _limit_twin(self) -> None:
        """What is written beside is shown as far as it had come by then."""
        if (twin := self.log.twin) and isinstance(twin.steps, LazySteps):
            n, run = self._shown, twin.started.run
            twin.steps.limit = self.trace.reached(run, self._seqs[n - 1] if n else 0) if n < self.length else None

    def _take(self, event: Event) -> None:
        try:
            self.log.append(event)
        except (LookupError, ValueError, TypeError, ArithmeticError):
            return  # of the right kind and yet nonsense
        if isinstance(event, Prefilled):
            self._reading[event.run] = event.seconds
        if isinstance(event, Started) and event.run in self._whole.runs:
            known, is_played = self._whole.runs[event.run], event.run == self.log.run_number
            self.log.read_steps(event.run, self._steps if is_played else LazySteps(self.trace, event.run))
            self.log.append(Labelled(event.run, known.name, known.starred, known.deleted))
            self.log.include(self._whole.runs)
            self._limit_twin()

    def _release(self) -> None:
        if self._held:
            self.log.restore(self._held)
            self._held = None

    def _end(self) -> None:
        self._due = None
        self.log.finish("the recording ends here")


def _others(trace: Trace, run: int, twins: Collection[int]) -> list[tuple[int, float, Event]]:
    """(seq, seconds since 1970, event) of what happened before and during a run, beside it, and in those that it goes
    on from as long as it shares their steps; steps left out.

    Say the first five steps of run 1 have seq 5 to 9, then a knob was turned (10), and run 2 goes on from the first
    three of them. Of run 1 that counts which comes before its fourth step, seq 8: the knob is none of run 2's past.
    """
    events = list(trace.events())
    began = {event.run: seq for seq, _, event in reversed(events) if isinstance(event, Started)}
    ends, left = dict.fromkeys(twins, math.inf), math.inf
    for part in reversed(trace.lineage(run)):  # the run itself first, then what it goes on from
        beyond = trace.seqs(part.run)[part.last :]
        ends[part.run] = left = min(left, beyond[0]) if beyond else left
        left = min(left, began.get(part.run, math.inf))
    timeline: list[tuple[int, float, Event]] = []
    at: int | None = None
    for seq, wall, event in events:
        if isinstance(event, Started) and event.run in ends and event.run not in twins:
            event = replace(event, twin_of=None)  # here it is not beside another
        if isinstance(event, Switched) or (isinstance(event, Started) and event.twin_of is None):
            at = event.run
        if isinstance(event, Ready):
            if trace.card is None:
                continue  # none that can be believed
            # The card is the one that every step has its shape from.
            event = Ready(trace.card, event.vectors, probes=event.probes, capabilities=event.capabilities)
        whose = getattr(event, "run", at)
        if (whose is None or seq < ends.get(whose, 0)) and not isinstance(event, Step | Labelled):
            timeline.append((seq, wall, event))
    return timeline
