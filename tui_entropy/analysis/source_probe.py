"""A question to a server without a screen: it writes as far as the question needs, and is asked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.endings import ended_by, tell_answered
from tui_entropy.analysis.source_run import server_source
from tui_entropy.records.commands import Load, SetVector, Stop, Write
from tui_entropy.records.events import Event, Progress, Ready, Refused
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.answering import read_options
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo, ProbeProgress, Value
from tui_entropy.records.settings import Vector
from tui_entropy.records.source import Audience
from tui_entropy.servers.probes.registry import infos, probe_of
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.writer import Recorder


def server_probes() -> tuple[ProbeInfo, ...]:
    return infos()


def server_probe(name: str) -> ProbeInfo:
    """Raises UserError for one that a server has no answer to."""
    known = probe_of(name).name
    return next(one for one in infos() if one.name == known)


class QuietAudience(Audience):
    """Records what a source tells, and says what went wrong."""

    def __init__(self, narrator: Narrator, recorder: Recorder) -> None:
        self.narrator, self.recorder = narrator, recorder
        self.log = SessionView()
        self.found: ProbeAnswer | None = None
        self.failed = False

    def emit(self, event: Event) -> None:
        self.log.append(event)
        self.recorder.take(event)
        match event:
            case Progress():
                self.narrator.progress(event)
            case ProbeProgress():
                self.narrator.progress(Progress(f"asking {event.name}", event.done, event.total))
            case Ready():
                self.narrator.done(f"{event.card.name} · {event.card.note}")
            case Refused():
                self.narrator.done(event.sentence)
                self.failed |= not event.notice
            case ProbeAnswer():
                self.found = event

    answer = emit

    def hears_cancel(self) -> bool:
        return False


def ask_server(
    spec: ModelSpec,
    write: Write,
    vectors: tuple[Vector, ...],
    name: str,
    position: int | None,
    options: Mapping[str, Value],
    trace: Path | None = None,
) -> tuple[ProbeAnswer | None, SessionView]:
    """As `probe.ask`, of a model behind a server. The answer is None where the server broke off before it."""
    read_options(name, probe_of(name).options, options)  # a mistake is told before anything is asked
    narrator = Narrator()
    with closing(Recorder(trace, narrator.done)) as recorder:
        audience = QuietAudience(narrator, recorder)
        source, log = server_source(spec, audience), audience.log
        try:
            with closing(source):
                source.begin(Load(spec, vectors))
                for vector in vectors:
                    source.handle(SetVector(vector))
                audience.emit(source.ready())
                source.handle(write)
                at = len(log.run.started.prompt_tokens) if position is None else position
                while source.state == "writing" and log.context_used <= at:
                    source.advance()
                if not audience.failed:
                    source.handle(AskProbe(name, log.run_number, at, dict(options)))
                    source.handle(Stop())
        except BaseException as error:
            recorder.take(ended_by(log.run_number, error))
            raise
    tell_answered(narrator, audience.found, recorder.name)
    return audience.found, log
