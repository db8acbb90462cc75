"""The loop without a screen: text or JSON lines to stdout, narration to stderr."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from tui_entropy import jsonl
from tui_entropy.engine.decode import instruments
from tui_entropy.engine.loading import load
from tui_entropy.engine.session import Session
from tui_entropy.log import Log
from tui_entropy.narration import Narrator
from tui_entropy.recorder import Recorder
from tui_entropy.records import Breakpoint, Ended, Event, ModelSpec, Paused, Ready, Refused, Step, Vector, Write


def write_out(
    spec: ModelSpec,
    write: Write,
    vectors: tuple[Vector, ...],
    as_json: bool,
    trace: Path | None = None,
    *,
    breakpoints: tuple[Breakpoint, ...] = (),
    watches: tuple[str, ...] = (),
) -> bool:
    """Load a model, write once, print, and record it in `trace`. False if a breakpoint ended it. Raises UserError."""
    narrator = Narrator()
    loaded = load(spec, narrator.progress)
    narrator.done(f"{loaded.card.name} · {loaded.card.device} {loaded.card.dtype}")
    out = sys.stdout.buffer

    log = Log()

    def tell(event: Event) -> None:
        log.append(event)
        recorder.take(event)
        if as_json:
            out.write(jsonl.line(event, loaded.card, log))
        match event:
            case Step() if not as_json and event.token_id not in loaded.codec.eos_ids:
                out.write(event.text.encode())
            case Refused():
                narrator.done(event.sentence)
            case Ended():
                out.write(b"" if as_json else b"\n")
                narrator.done(event.reason)
        out.flush()

    with closing(Recorder(trace, narrator.done)) as recorder, instruments(loaded, keep=0) as probes:
        session = Session(loaded, probes, tell)
        tell(Ready(loaded.card, session.vectors, recorder.name))
        for vector in vectors:
            session.set_vector(vector)
        session.begin(write)
        session.set_watches(watches)
        session.set_breakpoints(breakpoints)
        stopped = None
        while session.active:
            if isinstance(stopped := session.advance(), Paused):
                session.stop(f"stopped at {stopped.reason}")
    if recorder.name:
        narrator.done(f"recorded in {recorder.name}")
    return not isinstance(stopped, Paused)
