"""Trace files made for tests: short ones by the recorder itself, long ones by copying its rows inside SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import fake_engine
from msgspec.structs import replace

from tui_entropy.records.commands import Write
from tui_entropy.records.events import Ended, Event, KnobsChanged, Prefilled, Ready, VectorsChanged
from tui_entropy.records.sampling import Knobs
from tui_entropy.trace.schema import TABLES
from tui_entropy.trace.writer import Recorder

LAYERS, HEADS = 30, 9
RATE = 20.0
"""Tokens per second of work."""
WRITE = Write("Where is Paris?", None, True, 500, Knobs())


def session(n: int = 40, run: int = 1, layers: int = LAYERS, heads: int = HEADS) -> list[Event]:
    """A run of n tokens, with a knob turned at token 10 and a vector on at 20."""
    vectors = fake_engine.vectors(layers)
    start = fake_engine.started(WRITE, run, vectors)
    prompt = len(start.prompt_tokens)
    made = [replace(fake_engine.step(i, prompt, layers, heads, run=run), at=0.5 + i / RATE) for i in range(n)]
    return [
        start,
        Prefilled(run, prompt, prompt, 0.4),
        *made[:10],
        KnobsChanged(run, 10, Knobs(temperature=1.2)),
        *made[10:20],
        VectorsChanged(run, 20, (replace(vectors[0], on=True), *vectors[1:])),
        *made[20:],
        Ended(run, "end of text"),
    ]


def recorded(path: Path, *events: Event, layers: int = LAYERS, heads: int = HEADS) -> Path:
    """A trace of these events, of a session of 40 tokens by default."""
    recorder = Recorder(path)
    recorder.take(Ready(fake_engine.card(layers, heads), fake_engine.vectors(layers)))
    for event in events or session(layers=layers, heads=heads):
        recorder.take(event)
    recorder.close()
    return path


def lengthened(path: Path, n: int, arrays: bool = True) -> Path:
    """The one run of a trace again and again until it has n tokens. arrays: copy what is large, too."""
    db = sqlite3.connect(path, isolation_level=None)
    ((k, first),) = db.execute("SELECT count(*), max(seq) FROM steps")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("BEGIN")
    db.execute("UPDATE events SET seq = ? + 1000 WHERE kind = 'ended'", (first + n,))
    db.execute("CREATE TEMP TABLE old_steps AS SELECT * FROM steps ORDER BY step")
    db.execute("CREATE TEMP TABLE old_arrays AS SELECT o.step, a.* FROM arrays a JOIN old_steps o USING (seq)")
    counted = f"WITH RECURSIVE n(i) AS (SELECT {k} UNION ALL SELECT i + 1 FROM n WHERE i < {n - 1}) "
    new = {
        "seq": f"{first} + 1 + i",
        "step": "i",
        "at_seconds": f"0.5 + i / {RATE}",
        "position": f"position + i - i % {k}",
    }
    for table in ("steps", "arrays") if arrays else ("steps",):
        names = TABLES[table]
        values = ", ".join(new.get(name, f'o."{name}"') for name in names)
        db.execute(
            f"{counted} INSERT INTO {table} ({', '.join(names)}) "
            f"SELECT {values} FROM n JOIN old_{table} o ON o.step = i % {k}"
        )
    db.execute("COMMIT")
    db.close()
    return path
