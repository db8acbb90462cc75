"""The model on this machine as a source: commands to its session, with how many tokens are written before a pause.

Importing this needs no torch: the process listens while torch is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import (
    Advance,
    Branch,
    Command,
    Continue,
    Go,
    Label,
    Load,
    Pause,
    Relayed,
    Reopen,
    SelectHead,
    SetBreakpoints,
    SetKnobs,
    SetShadow,
    SetVector,
    SetWatches,
    Stop,
    Twin,
    Write,
)
from tui_entropy.records.events import STOPPED, Continued, Event, Memory, Paused, Progress, Ready, Refused
from tui_entropy.records.probes.answering import ProbeCancelled, progress_to
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo
from tui_entropy.records.source import Audience, Capabilities, Source, inability
from tui_entropy.records.step import Step
from tui_entropy.state.unopened import UnopenedRecording, not_begun_with

if TYPE_CHECKING:
    from tui_entropy.engine.reopening.recorded_session import RecordedSession
    from tui_entropy.engine.session.session import Session
    from tui_entropy.records.sampling import Knobs


class ModelSource(Source):
    """A session and who commands it. What a subclass has in place of a model it says in `bring_up`, `probes`, `ask`
    and `memory`."""

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.emit = audience.emit
        self.session: Session
        self.budget: int | None = None
        """Tokens to write before pausing by itself; None for no end, 0 while paused."""
        self._open = ExitStack()
        self._own_knobs: Knobs | None = None
        """Those of a person, while a text is written that an application asked for; else None."""
        self._recorded: RecordedSession | None = None
        self._unopened: UnopenedRecording | None = None
        """A recording that nobody has gone on with yet, and what may be done until then."""
        self._reads: RecordedSession | None = None
        """The one whose text is being read again."""

    # --- Coming up and going -----------------------------------------------------------------------------------

    def begin(self, load: Load) -> None:
        self.session = self.bring_up(load)
        self._open.callback(lambda: self.session.stop())
        if load.reopen is not None:
            from tui_entropy.engine.reopening.recorded_session import RecordedSession

            self.emit(Progress("reading the recording"))
            self._recorded = RecordedSession(self.session, Path(load.reopen.path))
            self._unopened = UnopenedRecording(load.reopen.path, self._recorded.differences)

    def bring_up(self, load: Load) -> Session:
        """A session with the model that is asked for."""
        from tui_entropy.engine.decoding.instruments import NO_GRAPH, open_instruments
        from tui_entropy.engine.loading.loader import load as loaded_from
        from tui_entropy.engine.session.session import Session

        loaded = loaded_from(load.model, self.emit)
        held = self._open.enter_context(open_instruments(loaded, record=load.record_attention))
        if held.no_graph_reason:
            self.emit(Refused(NO_GRAPH.format(held.no_graph_reason), notice=True))
        return Session(loaded, held, self.emit, load.kept_cache)

    def ready(self) -> Ready:
        state, rewinder = self.session.state, self.session.branches.rewinder
        return Ready(
            state.loaded.card,
            state.vectors,
            rewinds=rewinder.rewinds,
            probes=self.probes(),
            capabilities=self.capabilities,
            recording=str(self._recorded.path) if self._recorded else "",
        )

    def probes(self) -> tuple[ProbeInfo, ...]:
        """Those that can be asked here."""
        from tui_entropy.engine.probes.registry import PROBES, info

        return tuple(map(info, PROBES))

    @property
    def capabilities(self) -> Capabilities:
        from tui_entropy.engine.probes.registry import PROBES

        return Capabilities(open_probes=tuple(probe.name for probe in PROBES if probe.is_light))

    def abandon(self) -> None:
        self.session.abandon()
        self._give_back()

    def close(self) -> None:
        self._open.close()

    # --- How it stands -----------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        if self.session.active:
            return "paused" if self.budget == 0 else "writing"
        return "ended" if self.session.state.run_number else "ready"

    @property
    def writing(self) -> bool:
        return self.session.active and self.budget != 0

    @property
    def n_written(self) -> int:
        return self.session.state.n_written

    def memory(self) -> Memory | None:
        import psutil
        import torch

        on_cuda = self.session.state.loaded.model.device.type == "cuda"
        kept = self.session.branches.rewinder.prefix_cache
        return Memory(
            resident=psutil.Process().memory_info().rss,
            device=torch.cuda.memory_allocated() if on_cuda else None,
            cache=self.session.cache_bytes,
            kept=kept.bytes,
            bound=kept.bound,
            step=self.session.state.instruments.way if on_cuda else "",
        )

    # --- What it is told ---------------------------------------------------------------------------------------

    def handle(self, command: Command) -> None:
        session = self.session
        if self._unopened is not None and not isinstance(command, Reopen | Write):
            self._unopened.put_off(command, self.audience)
            return
        if isinstance(command, Write | Branch | Go | Twin | Continue | Advance):
            self._unopened = self._recorded = self._reads = None
        match command:
            case Reopen():
                self._reopen(command)
            case Write():
                self._begin(command)
            case SetKnobs():
                session.set_knobs(command.knobs)
            case SetVector():
                session.set_vector(command.vector, command.rebuild)
            case Branch():
                self._branch(command)
            case Go():
                self._go(command.run)
            case Label():
                session.branches.label(command)
            case SelectHead():
                session.heads.select(command.layer, command.head)
            case SetShadow():
                session.set_shadow(command.lane)
            case Twin():
                self._twin(command)
            case AskProbe():
                self._probe(command)
            case Stop() if not command.request or command.request == session.state.request:
                session.stop(command.reason or STOPPED)
            case Pause() if self.writing or session.reopen():  # a text that was stopped rests there
                self._pause(command.reason)
            case Continue() | Advance() if session.reopen() or session.active:
                place = command.until if isinstance(command, Advance) else ""
                session.state.breakpoints.run_to(place)
                self.budget = command.tokens if isinstance(command, Advance) and not place else None
                self.emit(Continued(session.state.run_number))
            case Relayed():
                raise UserError(inability("relayed"))
            case SetBreakpoints():
                session.set_breakpoints(command.breakpoints)
            case SetWatches():
                session.set_watches(command.texts)
            # A CancelProbe comes too late here: who computes hears of it (hears_cancel).
        if isinstance(command, Go | Reopen):  # what was set in that run is set again
            self._own_knobs = None
        if not session.active:
            self._give_back()

    def _begin(self, write: Write) -> None:
        """A new text. What an application sets for its own holds for that one."""
        before = self._own_knobs or self.session.state.knobs
        self.session.begin(write)
        self._own_knobs, self.budget = before if write.request else None, None

    def _give_back(self) -> None:
        """Once a text has ended that an application asked for, a person's knobs are set again."""
        knobs, self._own_knobs = self._own_knobs, None
        if knobs is not None:
            self.session.set_knobs(knobs)

    def _reopen(self, command: Reopen) -> None:
        recorded, unopened = self._recorded, self._unopened
        if recorded is None or unopened is None:
            raise not_begun_with(command.path)
        if not unopened.is_agreed(command, self.audience):
            return
        self._unopened, self._recorded, self.budget = None, None, None
        recorded.enter(command)
        if self.session.active:
            self._reads = recorded
            self.emit(Continued(self.session.state.run_number))

    def _rest_after_reading(self) -> Paused:
        """What was recorded is read, and a person says how it goes on."""
        assert self._reads is not None
        recorded, self._reads = self._reads, None
        return self._pause(recorded.how_read())

    def _branch(self, command: Branch) -> None:
        session = self.session
        run = session.state.run_number
        n_forced = session.branch(command)
        session.state.breakpoints.run_to()
        if command.pause and not n_forced:
            if self.writing or session.state.run_number != run:
                session.read_all()
                self._pause("before a branch")
            return
        self.budget = n_forced if command.pause else None
        self._tell_continued(run)

    def _go(self, run: int) -> None:
        session = self.session
        session.state.run_of(run)
        if self.writing and run != session.state.run_number:
            self.emit(Paused(session.state.run_number, f"run {run} is looked at"))
        self.budget = 0
        session.go(run)

    def _twin(self, command: Twin) -> None:
        run = self.session.state.run_number
        self.session.begin_twin(command)
        self.session.state.breakpoints.run_to()
        self.budget = None
        self._tell_continued(run)

    def _tell_continued(self, run: int) -> None:
        """That it goes on, if it is still at that run; another one begins by being told of."""
        if self.session.state.run_number == run:
            self.emit(Continued(run))

    def _pause(self, reason: str) -> Paused:
        self.budget, paused = 0, Paused(self.session.state.run_number, reason)
        self.emit(paused)
        self.session.look_ahead()
        return paused

    # --- What it is asked --------------------------------------------------------------------------------------

    def _probe(self, ask: AskProbe) -> None:
        found = self.ask(ask, progress_to(self.audience, ask))
        (self.emit if found.record else self.audience.answer)(found)

    def ask(self, ask: AskProbe, progress: Callable[[float, float], None]) -> ProbeAnswer:
        """The answer of a probe, or that it was given up. progress: told how much is done, of how much. Raises
        UserError."""
        from tui_entropy.engine.probes.answer import answer

        try:
            return answer(self.session, ask, progress)
        except ProbeCancelled:
            return ProbeAnswer(ask.name, ask.run, ask.position, ask.options, unavailable="given up", record=False)

    # --- Writing -----------------------------------------------------------------------------------------------

    def advance(self) -> Event | None:
        if self._reads is not None and not self.session.reading:
            return self._rest_after_reading()
        event = self.session.advance()
        if isinstance(event, Paused):
            self.budget = 0
        if isinstance(event, Step) and self.budget is not None:
            self.budget -= 1
            if self.budget == 0 and self.session.active:
                self._pause("after a step")
        if event is None and not self.session.active:
            self._give_back()
        return event
