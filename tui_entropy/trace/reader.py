"""Reads a trace: what a session left behind, or is writing now. The file is data from anywhere and never believed."""

from __future__ import annotations

import contextlib
import heapq
import json
import math
import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.events import Event, Ready, Started, Switched
from tui_entropy.records.model import ModelCard
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import BLOCKS, Bounds, PromptToken, Step
from tui_entropy.state.session_view import SessionView, Standing
from tui_entropy.trace import step_codec
from tui_entropy.trace.lazy_steps import LazySteps, Outline
from tui_entropy.trace.legacy import decoded
from tui_entropy.trace.lineage import MAX_MISSING_STEPS, Stretch
from tui_entropy.trace.recovery import recover
from tui_entropy.trace.sandbox import MAX_TOKEN_BYTES, is_sane, lenient_text, open_readonly
from tui_entropy.trace.schema import TABLES


class Trace:
    """A recorded session, read-only. Whatever cannot be read is left out or unknown; only `open` raises."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self.damage = ""
        """The first thing that could not be read, in SQLite's words."""
        self.header: dict[str, Any] = {}
        for key, value in self._rows("SELECT key, value FROM header"):
            try:
                self.header[str(key)] = json.loads(value)
            except (ValueError, TypeError, RecursionError):
                self.damage = self.damage or f"header {key!r} is no JSON"
        self._began: dict[int, Started] = {}
        self._parents: dict[int, int] = {}
        """Of each run that goes on from the steps of another. Always a lower number, whatever the file says."""
        self._own: dict[int, tuple[int, array[int]]] = {}
        """Of each run the first step that it wrote itself, and the seq of each from that one on."""
        self._looked = 0
        """Up to which seq it is known what began."""
        self._vocabulary: dict[int, bytes] = {}
        self._columns: dict[str, list[str]] = {}
        self.card = self._card()
        self.shape = step_codec.shape_of(self.header, self.card)
        for run in self.runs:
            self.n_steps(run)

    @classmethod
    def open(cls, path: Path) -> Trace:
        """Raises UserError for what is missing, foreign, newer, or too damaged to tell."""
        try:
            trace = cls(path, open_readonly(path))
            damage = trace.damage
        except sqlite3.Error as error:
            damage = str(error)
        if not damage:
            return trace
        trace = cls(path, recover(path))
        trace.damage = damage
        if not trace.runs:
            raise UserError(f"the trace {path} is damaged and nothing in it can be read ({damage})")
        return trace

    def close(self) -> None:
        self._db.close()

    @property
    def runs(self) -> tuple[int, ...]:
        """In the order they began; those that have begun since are looked for."""
        self._look()
        return tuple(self._began)

    def _look(self) -> None:
        new = []
        for seq, _, event in self._events("WHERE seq > ? AND kind = 'started'", self._looked):
            self._looked = step_codec.of(int, seq, self._looked)
            if isinstance(event, Started) and event.run not in self._began:
                self._began[event.run] = event
                new.append(event.run)
        for run in sorted(new):
            self._plant(self._began[run])

    def _plant(self, started: Started) -> None:
        """Place a run among the others, which have all that it shares with them already."""
        first, parent = 0, started.parent
        if parent is not None and 0 <= parent < started.run:
            before = self._began.get(parent)
            if before.prompt_tokens == started.prompt_tokens if before else started.shared:
                self._parents[started.run] = parent
                first = max(min(started.shared, self.n_steps(parent)), 0)
        self._own[started.run] = (first, array("q"))

    def checked(self, run: int) -> int:
        """The run. Raises UserError where there is none of that number."""
        if run not in self.runs:
            raise UserError(f"{self.path} has no run {run}: it has {', '.join(map(str, self.runs)) or 'none'}")
        return run

    def lineage(self, run: int) -> list[Stretch]:
        """The stretches that the steps of a run are made of: of its root, of the branches between, and its own.

        Root and run are among them also where they wrote none.
        """
        stretches: list[Stretch] = []
        last = self._n_known(run)
        while True:
            first, parent = self._own[run][0], self._parents.get(run)
            if first < last or not stretches or parent is None:
                stretches.append(Stretch(run, min(first, last), last))
            if parent is None:
                return stretches[::-1]
            run, last = parent, min(first, last)

    def events(self, run: int | None = None) -> Iterator[tuple[int, float, Event]]:
        """(seq, seconds since 1970, event) of everything but steps, oldest first. run: of that run only."""
        return self._events("") if run is None else self._events("WHERE run = ?", run)

    def _events(self, where: str, *values: int) -> Iterator[tuple[int, float, Event]]:
        query = f"SELECT seq, run, kind, wall, json FROM events {where} ORDER BY seq"
        for seq, run, kind, wall, text in self._rows(query, values):
            wall = wall if isinstance(wall, int | float) else math.nan
            try:
                event = decoded(text, self._began)
            except (msgspec.MsgspecError, TypeError, RecursionError):
                if kind != "started" or not isinstance(run, int):
                    continue  # of a kind that this version does not know, or damaged
                event = self._beginning(run)
            if isinstance(event, Started) and not event.prompt_tokens and event.parent in self._began:
                event = replace(event, prompt_tokens=self._began[event.parent].prompt_tokens)
            yield seq, wall, event

    def _beginning(self, run: int) -> Started:
        """The start of a run whose own event is damaged, with the prompt as other tables have it."""
        query = "SELECT prompt, system, chat, parent_run, parent_step FROM branches WHERE run = ?"
        prompt, system, chat, parent, shared = next(self._rows(query, (run,)), ("", None, 0, None, None))
        tokens = self._rows("SELECT token_id, bytes, text FROM prompt_tokens WHERE run = ? ORDER BY position", (run,))
        prompt_tokens = [
            PromptToken(step_codec.of(int, number, 0), step_codec.of(bytes, data, b""), step_codec.of(str, text, ""))
            for number, data, text in tokens
        ]
        words = step_codec.of(str, prompt, ""), step_codec.of(str, system, None), bool(chat)
        origin = step_codec.of(int, parent, None), step_codec.of(int, shared, 0)
        return Started(run, *words, tuple(prompt_tokens), Knobs(), (), 0, *origin)

    def n_steps(self, run: int) -> int:
        """The number of its steps, those that it shares included; those that have come since are looked for."""
        if run not in self._own:
            self._look()
        first, seqs = self._own.setdefault(run, (0, array("q")))
        query = "SELECT step, seq FROM steps WHERE run = ? AND step >= ? ORDER BY step"
        for step, seq in self._rows(query, (run, first + len(seqs))):
            n = first + len(seqs)
            if not isinstance(step, int) or not isinstance(seq, int) or not 0 <= step - n <= MAX_MISSING_STEPS:
                self.damage = self.damage or f"no step {n} of run {run}"
                break
            seqs.extend([0] * (step - n))
            seqs.append(seq)
        return first + len(seqs)

    def _n_known(self, run: int) -> int:
        first, seqs = self._own.get(run, (0, ()))
        return first + len(seqs) or self.n_steps(run)

    def n_written(self, run: int) -> int:
        """The number of steps that it wrote itself."""
        return len(self._own[run][1])

    def reached(self, run: int, seq: int) -> int:
        """The number of steps that it had by then, those that it shares included."""
        first, seqs = self._own[run]
        return first + bisect_right(seqs, seq)

    def seqs(self, run: int) -> array[int]:
        """The seq of each step of a run, the first step first."""
        self.n_steps(run)
        seqs = array("q")
        for part in self.lineage(run):
            seqs.extend(self._seqs(part))
        return seqs

    def _seqs(self, part: Stretch) -> array[int]:
        first, seqs = self._own[part.run]
        return seqs[part.first - first : part.last - first]

    def _parts(self, run: int, wanted: range) -> Iterator[Stretch]:
        """The stretches of the wanted steps, each with the run that wrote it."""
        for owner, first, last in self.lineage(run):
            first, last = max(first, wanted.start), min(last, wanted.stop)
            if first < last:
                yield Stretch(owner, first, last)

    def step(self, run: int, index: int) -> Step:
        """Raises IndexError where there is none."""
        index = range(self._n_known(run))[index]
        return next(self.steps(run, index, index + 1))

    def steps(self, run: int, first: int = 0, last: int | None = None) -> Iterator[Step]:
        """Steps first ... last - 1, read as they are asked for."""
        for part in self._parts(run, self._wanted(run, first, last)):
            for index, seq in enumerate(self._seqs(part), part.first):
                yield self._restored(part.run, index, seq)

    def _restored(self, run: int, index: int, seq: int) -> Step:
        row: dict[str, Any] = {}
        for table in ("steps", "arrays"):
            for values in self._rows(f"SELECT * FROM {table} WHERE seq = ?", (seq,)):
                row |= zip(self._names(table), values, strict=True)
        return step_codec.restored(run, index, row, self.shape, self._token_bytes)

    def _wanted(self, run: int, first: int, last: int | None) -> range:
        return range(*slice(first, last).indices(self._n_known(run)))

    def column(self, run: int, name: str, first: int = 0, last: int | None = None) -> array[float]:
        """A column of `steps` (schema.STEP) for steps first ... last - 1; NaN where it is unknown."""
        return self.columns(run, (name,), first, last)[0]

    def columns(self, run: int, names: Sequence[str], first: int = 0, last: int | None = None) -> list[array[float]]:
        """Several of them, read in one go."""
        rows = list(self._along(run, wanted := self._wanted(run, first, last), names))
        if rows and [at for at, _ in rows] == list(range(len(wanted))):
            with contextlib.suppress(TypeError):  # where all is there and known, which is the rule, in one go
                return [array("d", numbers) for numbers in zip(*(row for _, row in rows), strict=True)]
        columns = [array("d", [math.nan]) * len(wanted) for _ in names]
        for at, row in rows:
            for numbers, value in zip(columns, row, strict=True):
                if isinstance(value, int | float):
                    numbers[at] = value
        return columns

    def texts(self, run: int, first: int = 0, last: int | None = None) -> list[str]:
        """The text that each step completes."""
        wanted = self._wanted(run, first, last)
        read = dict(self._along(run, wanted, ("text",)))
        return [step_codec.of(str, read.get(at, (None,))[0], "") for at in range(len(wanted))]

    def outline(self, run: int, n: int) -> Outline:
        """Of the first n steps of a run, as Steps keeps them."""
        texts, ids, at = [""] * n, array("l", [0]) * n, array("d", [math.nan]) * n
        strayed: list[tuple[int, ...]] = [()] * n
        bounded: list[tuple[Bounds, ...]] = [()] * n
        names = ("text", "token_id", "at_seconds", "stray_blocks", "bounds")
        for index, (text, token_id, seconds, blocks, bounds) in self._along(run, range(n), names):
            texts[index] = step_codec.of(str, text, "")
            ids[index] = step_codec.of(int, token_id, 0)
            at[index] = seconds if isinstance(seconds, int | float) else math.nan
            strayed[index] = step_codec.strays(blocks, self.shape.n_layers) if blocks else ()
            bounded[index] = step_codec.bounds(bounds) if bounds else ()
        return texts, ids, at, strayed, bounded

    def norms(self, run: int, first: int = 0, last: int | None = None) -> array[float]:
        """(steps, n_layers) L2 norms of the residual stream after each block, as one row; NaN where unknown."""
        n_layers = self.shape.n_layers
        wanted = self._wanted(run, first, last)
        norms = array("f", [math.nan]) * (len(wanted) * n_layers)
        for at, (data,) in self._along(run, wanted, ("blocks",), "steps JOIN arrays USING (seq)"):
            if isinstance(data, bytes) and len(data) == 4 * n_layers * len(BLOCKS):
                norms[at * n_layers : (at + 1) * n_layers] = array("f", data)[BLOCKS.index("norm") :: len(BLOCKS)]
        return norms

    def table(self, name: str) -> Iterator[tuple[Any, ...]]:
        """Every row of a table, with the columns that this version knows; NULL where the file has none."""
        there = self._names(name)
        columns = ", ".join(column if column in there else "NULL" for column in TABLES[name])
        return self._rows(f"SELECT {columns} FROM {name}")

    def log(self, run: int | None = None) -> SessionView:
        """The session as a screen had it at the end, with every run. It looks at the run that was looked at last, or
        at this one as it was when it was left. Steps are read as they are asked for.

        Raises UserError where there is no such run.
        """
        if run is not None:
            self.checked(run)
        log, left = SessionView(), {}
        for seq, _, event in self.events():
            for view in (log.run, log.runs.get(getattr(event, "run", log.run_number))):
                if view and isinstance(view.steps, LazySteps):
                    view.steps.limit = self.reached(view.started.run, seq)
            left[log.run_number] = self._standing(log)
            with contextlib.suppress(
                LookupError, ValueError, TypeError, ArithmeticError
            ):  # nonsense of the right kind
                log.append(event)
            if isinstance(event, Started) and event.run in log.runs:
                log.read_steps(event.run, LazySteps(self, event.run))
        for view in log.runs.values():
            if isinstance(view.steps, LazySteps):
                view.steps.limit = None
        left[log.run_number] = self._standing(log)
        if run is not None and run != log.run_number:
            log.append(Switched(run))
        if log.run_number in left:
            log.restore(left[log.run_number])
        return log

    def _standing(self, log: SessionView) -> Standing:
        """The standing of a log to which no step was appended."""
        if log.state == "reading" and len(log.steps) > self._own[log.run_number][0]:
            log.has_step()
        return log.standing

    def latest(self) -> tuple[SessionView, int]:
        """The newest run as it is at one moment, and the seq of the last thing that had happened by then, 0 for none.

        Of a file that is being written: what it is told by `since` that seq is all that the log lacks.
        """
        for _ in self._rows("BEGIN"):
            pass
        try:
            ends = [self._rows(f"SELECT seq FROM {table} ORDER BY seq DESC LIMIT 1") for table in ("events", "steps")]
            last = max((seq for rows in ends for (seq,) in rows if isinstance(seq, int)), default=0)
            return self.log(), last
        finally:
            for _ in self._rows("COMMIT"):
                pass

    def apart(self) -> frozenset[int]:
        """Runs of which neither the text that is looked at nor its twin has a step."""
        log = self.log()
        shown = [view.started.run for view in (log.run, log.twin) if view and view.started.run in log.runs]
        return frozenset(self.runs) - {part.run for run in shown for part in self.lineage(run)}

    def since(self, seq: int, without: Collection[int] = ()) -> Iterator[tuple[int, Event]]:
        """(seq, what happened) after that seq, in order; `without` the steps of some runs."""
        streams: list[Iterator[tuple[int, Event]]]
        streams = [((at, event) for at, _, event in list(self.events()) if at > seq)]
        for run in self.runs:
            if run not in without and self.n_steps(run):
                streams.append(self._written_since(run, seq))
        return heapq.merge(*streams, key=itemgetter(0))

    def _written_since(self, run: int, seq: int) -> Iterator[tuple[int, Event]]:
        first, seqs = self._own[run]
        for place in range(bisect_right(seqs, seq), len(seqs)):
            yield seqs[place], self._restored(run, first + place, seqs[place])

    def _along(
        self, run: int, wanted: range, names: Sequence[str], tables: str = "steps"
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """(place in `wanted`, values of these columns) of the steps of a run, in order; NULL where there is none."""
        there = self._names("steps") if tables == "steps" else names
        columns = ", ".join(name if name in there else "NULL" for name in names)
        query = f"SELECT step, {columns} FROM {tables} WHERE run = ? AND step BETWEEN ? AND ? ORDER BY step"
        for owner, first, last in self._parts(run, wanted):
            for row in self._rows(query, (owner, first, last - 1)):
                if isinstance(row[0], int):
                    yield row[0] - wanted.start, row[1:]

    def _names(self, table: str) -> list[str]:
        """The columns that the file has, which may be more than we know or fewer."""
        if table not in self._columns:
            described = self._db.execute(f"SELECT * FROM {table} LIMIT 0").description
            self._columns[table] = [name for name, *_ in described]
        return self._columns[table]

    def _token_bytes(self, token_id: int) -> bytes:
        if token_id not in self._vocabulary:
            rows = self._rows("SELECT bytes FROM vocabulary WHERE token_id = ?", (token_id,))
            found = next((data for (data,) in rows if isinstance(data, bytes)), b"")
            self._vocabulary[token_id] = found[:MAX_TOKEN_BYTES]
        return self._vocabulary[token_id]

    def _card(self) -> ModelCard | None:
        ready = [event for _, _, event in self.events() if isinstance(event, Ready)]
        return ready[-1].card if ready and is_sane(ready[-1].card) else None

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """As many as can be read, at a second try with text that is no UTF-8."""
        given = 0
        while True:
            try:
                for row in islice(self._db.execute(query, values), given, None):
                    given += 1
                    yield row
                return
            except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
                self.damage = self.damage or str(error)
            if self._db.text_factory is lenient_text:
                return
            self._db.text_factory = lenient_text
