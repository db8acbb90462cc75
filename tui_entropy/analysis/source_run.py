"""A source written out without a screen: text or JSON lines to stdout, narration to stderr, as `run` has it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.endings import ended_by
from tui_entropy.core.streams import put
from tui_entropy.records.commands import Load, SetBreakpoints, SetVector, SetWatches, Stop, Write
from tui_entropy.records.events import Ended, Event, Paused, Progress, Ready, Refused
from tui_entropy.records.model import ModelCard, ModelSpec
from tui_entropy.records.settings import Breakpoint, Vector
from tui_entropy.records.source import Audience, Source, VectorFiles
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace import jsonl
from tui_entropy.trace.writer import Recorder


def _server_source(spec: ModelSpec, audience: Audience) -> Source:
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

    def __init__(self, narrator: Narrator, recorder: Recorder, as_json: bool) -> None:
        self.narrator, self.recorder, self.as_json = narrator, recorder, as_json
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
            case Step() if not self.as_json:
                put(event.text.encode())
            case Refused():
                self.narrator.done(event.sentence)
                self.failed |= not event.notice
            case Ended():
                put(b"" if self.as_json else b"\n")
                self.narrator.done(event.reason)
        sys.stdout.flush()

    answer = emit

    def hears_cancel(self) -> bool:
        return False

    def _introduce(self, card: ModelCard) -> None:
        self.narrator.done(f"{card.name} · {card.note}")
        for fact in card.server.facts if card.server else ():
            self.narrator.done(f"  {fact.name}: {fact.value}{'' if fact.known else ' (not tried)'}")


def write_by_source(
    spec: ModelSpec,
    write: Write,
    vectors: tuple[Vector, ...] = (),
    as_json: bool = False,
    trace: Path | None = None,
    *,
    breakpoints: tuple[Breakpoint, ...] = (),
    watches: tuple[str, ...] = (),
    record_attention: str = "off",
    make: Callable[[Audience], Source] | None = None,
) -> int:
    """Have a source write once, print and record it. Returns the exit code of the program: 1 if the source failed, 4
    if a breakpoint ended it. Raises UserError.

    make: the source of an audience; None for the server of `spec`.
    """
    if make is None:
        make = partial(_server_source, spec)
    narrator = Narrator()
    with closing(Recorder(trace, narrator.done)) as recorder:
        audience = ConsoleAudience(narrator, recorder, as_json)
        source = make(audience)
        stopped: Event | None = None
        try:
            with closing(source):
                source.begin(Load(spec, vectors, record_attention=record_attention))
                for vector in vectors:
                    source.handle(SetVector(vector))
                audience.emit(source.ready())
                for command in (write, SetWatches(watches), SetBreakpoints(breakpoints)):
                    source.handle(command)
                while source.state == "writing":
                    if isinstance(stopped := source.advance(), Paused):
                        source.handle(Stop())
        except BaseException as error:
            recorder.take(ended_by(audience.log.run_number, error))
            raise
    if recorder.name:
        narrator.done(f"recorded in {recorder.name}")
    return 1 if audience.failed else 4 if isinstance(stopped, Paused) else 0
