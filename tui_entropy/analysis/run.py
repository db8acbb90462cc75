"""The loop without a screen: text or JSON lines to stdout, narration to stderr."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.endings import ended_by, text_summary
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import put
from tui_entropy.engine.decoding.instruments import NO_GRAPH, open_instruments
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.reopening.recorded_session import RecordedSession
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Reopen, Write
from tui_entropy.records.events import Ended, Event, Paused, Ready, Refused
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.head_patterns import MAX_QUERIES
from tui_entropy.records.settings import Breakpoint, Vector
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace import jsonl
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder


def write_out(
    spec: ModelSpec,
    begin: Write | Reopen,
    vectors: tuple[Vector, ...] = (),
    as_json: bool = False,
    trace: Path | None = None,
    *,
    breakpoints: tuple[Breakpoint, ...] = (),
    watches: tuple[str, ...] = (),
    record_attention: str = "off",
) -> int:
    """Load a model, write once, print, and record it in `trace`, with attention rows as Load wants them. A recording
    that is gone on with has vectors, breakpoints and watches of its own. Returns the exit code of the program: 1 if
    the model failed, 4 if a breakpoint ended it. Raises UserError."""
    narrator = Narrator()
    reopen = begin if isinstance(begin, Reopen) else None
    origin = None if reopen is None else Path(reopen.path)
    reads = isinstance(begin, Write) and begin.read
    log = SessionView() if reopen is None else Trace.open(Path(reopen.path)).log(reopen.run)
    loaded = load(spec, narrator.progress)
    narrator.done(f"{loaded.card.name} · {loaded.card.device} {loaded.card.dtype}")
    failed = False

    def tell(event: Event) -> None:
        nonlocal failed
        log.append(event)
        recorder.take(event)
        if as_json:
            put(jsonl.line(event, loaded.card, log))
        match event:
            case Step() if not as_json and not reads and event.token_id not in loaded.tokenizer.eos_ids:
                put(event.text.encode())
            case Refused():
                narrator.done(event.sentence)
            case Ended():
                failed = event.failed
                put(b"" if as_json or reads else b"\n")
                narrator.done(event.reason)
        sys.stdout.flush()

    rows = record_attention if trace is not None else "off"
    with (
        closing(Recorder(trace, narrator.done, origin=origin)) as recorder,
        open_instruments(loaded, keep=MAX_QUERIES if rows == "shown" else 0, record=rows) as instruments,
    ):
        if instruments.no_graph_reason:
            narrator.done(NO_GRAPH.format(instruments.no_graph_reason))
        session = Session(loaded, instruments, tell)
        stopped = None
        try:
            if isinstance(begin, Reopen):
                recorded = _agreed(session, begin)
                tell(Ready(loaded.card, session.state.vectors, recorder.name, recording=begin.path))
                _reopen(recorded, session, begin, log, as_json, narrator)
            else:
                tell(Ready(loaded.card, session.state.vectors, recorder.name))
                for vector in vectors:
                    session.set_vector(vector)
                session.begin(begin)
                session.set_watches(watches)
                session.set_breakpoints(breakpoints)
            while session.active:
                if isinstance(stopped := session.advance(), Paused):
                    session.stop(stopped.reason if reads else f"stopped at {stopped.reason}")
            if reads and not as_json and log.steps:
                put(f"{text_summary(log)}\n".encode())
        except BaseException as error:
            recorder.take(ended_by(log.run_number, error))
            raise
    if recorder.name:
        narrator.done(f"recorded in {recorder.name}")
    return 1 if failed else 4 if isinstance(stopped, Paused) and not reads else 0


def _agreed(session: Session, ask: Reopen) -> RecordedSession:
    """The recording to go on with. Raises UserError where something differs and nobody agreed to it."""
    recorded = RecordedSession(session, Path(ask.path))
    if recorded.differences and not ask.despite:
        raise UserError(
            f"{ask.path} is not gone on with, since {', '.join(recorded.differences)}: --despite goes on all the same"
        )
    return recorded


def _reopen(
    recorded: RecordedSession, session: Session, ask: Reopen, log: SessionView, as_json: bool, narrator: Narrator
) -> None:
    """Go on with a recording: read again what it has, and tell how that agrees with what was recorded."""
    if as_json and log.started is not None:
        put(jsonl.line(log.started, session.state.loaded.card, SessionView()))
    recorded.enter(ask)
    if not session.active:
        raise UserError(
            f"run {log.run_number} of {ask.path} has ended ({log.run.ended}), so there is nothing to go on with: "
            "--run names another"
        )
    while session.reading:
        session.advance()
    narrator.done(f"{recorded.n_read} tokens read again: {recorded.how_read()}")
