"""A question to a model without a screen: a prompt is read, written on as far as the question needs, and answered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.endings import ended_by, tell_answered
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.registry import PROBES, info, options_of, probe_of
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Ended, Event, Progress, Ready, Refused
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo, Value
from tui_entropy.records.settings import Vector
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.writer import Recorder


def known_probes() -> tuple[ProbeInfo, ...]:
    return tuple(map(info, PROBES))


def known_probe(name: str) -> ProbeInfo:
    """Raises UserError for one that there is not."""
    return info(probe_of(name))


def ask(
    spec: ModelSpec,
    write: Write,
    vectors: tuple[Vector, ...],
    name: str,
    position: int | None,
    options: Mapping[str, Value],
    trace: Path | None = None,
) -> tuple[ProbeAnswer | None, SessionView]:
    """Load a model, write up to a token, ask a probe about it, and record text and answer in `trace`.

    position: of the token in the whole context, prompt included; None for the first that is written. The answer is
    None where the model failed before it came that far. Raises UserError.
    """
    options_of(probe_of(name), options)  # a mistake is told before a model is loaded for it
    narrator, log = Narrator(), SessionView()
    loaded = load(spec, narrator.progress)
    narrator.done(f"{loaded.card.name} · {loaded.card.device} {loaded.card.dtype}")
    with closing(Recorder(trace, narrator.done)) as recorder:
        listener = Listener(narrator, log, recorder)
        listener.tell(Ready(loaded.card, trace=recorder.name, probes=known_probes()))
        try:
            found = _answer(loaded, write, vectors, listener, name, position, options)
        except BaseException as error:
            recorder.take(ended_by(log.run_number, error))
            raise
    tell_answered(narrator, found, recorder.name)
    return found, log


@dataclass
class Listener:
    """Whoever hears what happens on the way to an answer."""

    narrator: Narrator
    log: SessionView
    recorder: Recorder
    failed: bool = False
    """The model put out what is no number."""

    def tell(self, event: Event) -> None:
        self.log.append(event)
        self.recorder.take(event)
        match event:
            case Refused():
                self.narrator.done(event.sentence)
            case Ended(failed=True):
                self.failed = True
                self.narrator.done(event.reason)


def _answer(
    loaded: Loaded,
    write: Write,
    vectors: tuple[Vector, ...],
    listener: Listener,
    name: str,
    position: int | None,
    options: Mapping[str, Value],
) -> ProbeAnswer | None:
    def progress(done: float, total: float) -> None:
        listener.narrator.progress(Progress(f"asking {name}", done, total))

    with open_instruments(loaded) as watching:
        session = Session(loaded, watching, listener.tell)
        for vector in vectors:
            session.set_vector(vector)
        session.begin(write)
        run = session.state.run_of(session.state.run_number)
        at = run.sequence.n_prompt if position is None else position
        while session.active and (session.reading or run.sequence.n_tokens <= at):
            session.advance()
        if listener.failed:
            return None
        found = answer(session, AskProbe(name, run.number, at, dict(options)), progress)
        listener.tell(found)
        session.stop("stopped at the token that was asked about")
    return found
