"""A source written out without a screen: text or JSON lines to stdout, narration to stderr, as `run` has it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.endings import ended_by, text_summary
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import put
from tui_entropy.records.commands import Continue, Load, Reopen, SetBreakpoints, SetVector, SetWatches, Stop, Write
from tui_entropy.records.events import Differences, Ended, Event, Paused, Progress, Ready, Refused
from tui_entropy.records.model import ModelCard, ModelSpec
from tui_entropy.records.settings import Breakpoint, Vector
from tui_entropy.records.source import Audience, Source, VectorFiles
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace import jsonl
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder


def server_source(spec: ModelSpec, audience: Audience) -> Source:
    from tui_entropy.servers.server_source import ServerSource

    if spec.server is None or spec.server.sampler == "server":
        return ServerSource(audience, vector_files=_vector_files)
    from tui_entropy.engine.decoding.own_draw import own_draw

    return ServerSource(audience, own_draw, _vector_files)


def _vector_files() -> VectorFiles:
    from tui_entropy.engine.steering import control_vector

    return control_vector


class ConsoleAudience(Audience):
    """Prints and records what a source tells."""

    def __init__(self, narrator: Narrator, recorder: Recorder, as_json: bool, reads: bool = False) -> None:
        """reads: the text is there already, and is not printed."""
        self.narrator, self.recorder, self.as_json, self.reads = narrator, recorder, as_json, reads
        self.log = SessionView()
        self.failed = False

    def emit(self, event: Event) -> None:
        self.log.append(event)
        self.recorder.take(event)
        if isinstance(event, Progress):
            self.narrator.progress(event)
            return
        card = self.log.card
        if self.as_json and card is not None:
            put(jsonl.line(event, card, self.log))
        match event:
            case Ready():
                self._introduce(event.card)
            case Step() if not self.as_json and not self.reads:
                put(event.text.encode())
            case Refused():
                self.narrator.done(event.sentence)
                self.failed |= not event.notice
            case Ended():
                put(b"" if self.as_json or self.reads else b"\n")
                self.narrator.done(event.reason)
        sys.stdout.flush()

    def answer(self, event: Event) -> None:
        if isinstance(event, Differences):
            found = ", ".join(event.found)
            raise UserError(f"{event.recording} is not gone on with, since {found}: --despite goes on all the same")
        self.emit(event)

    def hears_cancel(self) -> bool:
        return False

    def _introduce(self, card: ModelCard) -> None:
        self.narrator.done(f"{card.name} · {card.note}")
        for fact in card.server.facts if card.server else ():
            self.narrator.done(f"  {fact.name}: {fact.value}{'' if fact.known else ' (not tried)'}")


def _go_on(source: Source, audience: ConsoleAudience, ask: Reopen) -> None:
    """With a recording, whose session stands where it was left. Raises UserError where it has ended."""
    log = audience.log
    if source.state == "ended":
        raise UserError(
            f"run {log.run_number} of {ask.path} has ended ({log.run.ended}), so there is nothing to go on with: "
            "--run names another"
        )
    audience.narrator.done(f"{log.context_used} tokens are sent again: {log.note}")
    source.handle(Continue())


def write_by_source(
    spec: ModelSpec,
    begin: Write | Reopen,
    vectors: tuple[Vector, ...] = (),
    as_json: bool = False,
    trace: Path | None = None,
    *,
    breakpoints: tuple[Breakpoint, ...] = (),
    watches: tuple[str, ...] = (),
    record_attention: str = "off",
    make: Callable[[Audience], Source] | None = None,
) -> int:
    """Have a source write once, print and record it. A recording that is gone on with has breakpoints and watches of
    its own. Returns the exit code of the program: 1 if the source failed, 4 if a breakpoint ended it. Raises
    UserError.

    make: the source of an audience; None for the server of `spec`.
    """
    if make is None:
        make = partial(server_source, spec)
    narrator = Narrator()
    reopen = begin if isinstance(begin, Reopen) else None
    origin = None if reopen is None else Path(reopen.path)
    with closing(Recorder(trace, narrator.done, origin=origin)) as recorder:
        reads = isinstance(begin, Write) and begin.read
        audience = ConsoleAudience(narrator, recorder, as_json, reads)
        if reopen is not None and origin is not None:
            audience.log = Trace.open(origin).log(reopen.run)
        source = make(audience)
        stopped: Event | None = None
        try:
            with closing(source):
                source.begin(Load(spec, vectors, record_attention=record_attention, reopen=reopen))
                for vector in vectors:
                    source.handle(SetVector(vector))
                audience.emit(source.ready())
                if reopen is not None and as_json and audience.log.started and audience.log.card:
                    put(jsonl.line(audience.log.started, audience.log.card, SessionView()))
                source.handle(begin)
                if reopen is not None:
                    _go_on(source, audience, reopen)
                else:
                    source.handle(SetWatches(watches))
                    source.handle(SetBreakpoints(breakpoints))
                while source.state == "writing":
                    if isinstance(stopped := source.advance(), Paused):
                        source.handle(Stop(reason=stopped.reason if reads else f"stopped at {stopped.reason}"))
                if reads and not as_json and audience.log.steps:
                    put(f"{text_summary(audience.log)}\n".encode())
        except BaseException as error:
            recorder.take(ended_by(audience.log.run_number, error))
            raise
    if recorder.name:
        narrator.done(f"recorded in {recorder.name}")
    return 1 if audience.failed else 4 if isinstance(stopped, Paused) and not reads else 0
