"""Reads a trace: what a session left behind, or is writing now. The file is data from anywhere and never believed."""

from __future__ import annotations

import contextlib
import heapq
import json
import math
import sqlite3
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from tui_entropy import schema
from tui_entropy.errors import UserError
from tui_entropy.log import Log
from tui_entropy.records import BLOCKS, Event, Knobs, ModelCard, Piece, Ready, Started, Step
from tui_entropy.salvage import salvaged
from tui_entropy.schema import SERIES_COLUMNS, TABLES, Shape
from tui_entropy.steps import Steps

LARGEST = 2**25
"""Bytes of one value in a row; a longer one is not ours."""
GAP = 256
"""Steps in a row that may be missing from a damaged file; they are unknown, as seq 0 does not occur."""
MOST_NUMBERS = 2**22
"""Of a grid; a model card that asks for more is not ours."""


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
        self.card = self._card()
        self.shape = self._shape()
        self._vocabulary: dict[int, bytes] = {}
        self._seqs: dict[int, array[int]] = {}
        self._columns: dict[str, list[str]] = {}
        for run in self.runs:
            self.seqs(run)

    @classmethod
    def open(cls, path: Path) -> Trace:
        """Raises UserError for what is missing, foreign, newer, or too damaged to tell."""
        try:
            trace = cls(path, _opened(path))
            damage = trace.damage
        except sqlite3.Error as error:
            damage = str(error)
        if not damage:
            return trace
        trace = cls(path, salvaged(path))
        trace.damage = damage
        if not trace.runs:
            raise UserError(f"the trace {path} is damaged and nothing in it can be read ({damage})")
        return trace

    def close(self) -> None:
        self._db.close()

    @property
    def runs(self) -> tuple[int, ...]:
        """In the order they began."""
        began = self._events("WHERE kind = 'started'")
        return tuple(dict.fromkeys(event.run for _, _, event in began if isinstance(event, Started)))

    def checked(self, run: int) -> int:
        """The run. Raises UserError where there is none of that number."""
        if run not in self.runs:
            raise UserError(f"{self.path} has no run {run}: it has {', '.join(map(str, self.runs)) or 'none'}")
        return run

    def lineage(self, run: int) -> list[tuple[int, int | None]]:
        """The runs that a branch is made of, root first, each with how many of its steps count (None: all)."""
        parts: list[tuple[int, int | None]] = []
        steps: int | None = None
        while isinstance(run, int) and run not in [one for one, _ in parts]:
            parts.insert(0, (run, steps))
            rows = self._rows("SELECT parent_run, parent_step FROM branches WHERE run = ?", (run,))
            run, steps = next(rows, (None, None))
            steps = schema.of(int, steps, None)
        return parts

    def events(self, run: int | None = None) -> Iterator[tuple[int, float, Event]]:
        """(seq, seconds since 1970, event) of everything but steps, oldest first. run: of that run only."""
        return self._events("") if run is None else self._events("WHERE run = ?", run)

    def _events(self, where: str, *values: int) -> Iterator[tuple[int, float, Event]]:
        query = f"SELECT seq, run, kind, wall, json FROM events {where} ORDER BY seq"
        for seq, run, kind, wall, told in self._rows(query, values):
            wall = wall if isinstance(wall, int | float) else math.nan
            try:
                yield seq, wall, msgspec.json.decode(told, type=Event)
            except (msgspec.MsgspecError, TypeError, RecursionError):
                if kind == "started" and isinstance(run, int):
                    yield seq, wall, self._beginning(run)
                # else it is of a kind that this version does not know, or damaged

    def _beginning(self, run: int) -> Started:
        """Of a run whose own event is damaged: the prompt, as other tables have it."""
        query = "SELECT prompt, system, chat FROM branches WHERE run = ?"
        prompt, system, chat = next(self._rows(query, (run,)), ("", None, 0))
        tokens = self._rows("SELECT token_id, bytes, text FROM prompt_tokens WHERE run = ? ORDER BY position", (run,))
        pieces = [
            Piece(schema.of(int, number, 0), schema.of(bytes, data, b""), schema.of(str, text, ""))
            for number, data, text in tokens
        ]
        words = schema.of(str, prompt, ""), schema.of(str, system, None), bool(chat)
        return Started(run, *words, tuple(pieces), Knobs(), (), 0)

    def n_steps(self, run: int) -> int:
        return len(self.seqs(run))

    def seqs(self, run: int) -> array[int]:
        """The seq of each step of a run, the first step first; those that have come since are looked for."""
        found = self._seqs.setdefault(run, array("q"))
        rows = self._rows("SELECT step, seq FROM steps WHERE run = ? AND step >= ? ORDER BY step", (run, len(found)))
        for step, seq in rows:
            if not isinstance(step, int) or not isinstance(seq, int) or not 0 <= step - len(found) <= GAP:
                self.damage = self.damage or f"no step {len(found)} of run {run}"
                break
            found.extend([0] * (step - len(found)))
            found.append(seq)
        return found

    def step(self, run: int, index: int) -> Step:
        """Raises IndexError where there is none."""
        index = range(len(self._known(run)))[index]
        return next(self.steps(run, index, index + 1))

    def steps(self, run: int, first: int = 0, last: int | None = None) -> Iterator[Step]:
        """Steps first ... last - 1, read as they are asked for."""
        seqs = self._known(run)
        for index in range(*slice(first, last).indices(len(seqs))):
            row: dict[str, Any] = {}
            for table in ("steps", "arrays"):
                for values in self._rows(f"SELECT * FROM {table} WHERE seq = ?", (seqs[index],)):
                    row |= zip(self._names(table), values, strict=True)
            yield schema.restored(run, index, row, self.shape, self._token_bytes)

    def column(self, run: int, name: str, first: int = 0, last: int | None = None) -> array[float]:
        """A column of `steps` (schema.STEP) for steps first ... last - 1; NaN where it is unknown."""
        return self.columns(run, (name,), first, last)[0]

    def columns(self, run: int, names: Sequence[str], first: int = 0, last: int | None = None) -> list[array[float]]:
        """Several of them, read in one go."""
        wanted = range(*slice(first, last).indices(len(self._known(run))))
        known = self._names("steps")
        rows = list(self._along(run, wanted, [name if name in known else "NULL" for name in names]))
        if rows and [at for at, _ in rows] == list(range(len(wanted))):
            with contextlib.suppress(TypeError):  # where all is there and known, which is the rule, in one go
                return [array("d", numbers) for numbers in zip(*(row for _, row in rows), strict=True)]
        found = [array("d", [math.nan]) * len(wanted) for _ in names]
        for at, row in rows:
            for numbers, value in zip(found, row, strict=True):
                if isinstance(value, int | float):
                    numbers[at] = value
        return found

    def texts(self, run: int, first: int = 0, last: int | None = None) -> list[str]:
        """What each step completes."""
        wanted = range(*slice(first, last).indices(len(self._known(run))))
        found = [""] * len(wanted)
        for at, (text,) in self._along(run, wanted, ("text",)):
            found[at] = schema.of(str, text, "")
        return found

    def outline(self, run: int) -> tuple[list[str], array[float], list[tuple[int, ...]]]:
        """Text, seconds of work and strays of every step of a run, as Steps keeps them."""
        n = self.n_steps(run)
        texts, at = [""] * n, array("d", [math.nan]) * n
        strayed: list[tuple[int, ...]] = [()] * n
        names = ("text", "at_seconds", "stray_blocks")
        for index, (text, seconds, blocks) in self._along(run, range(n), names):
            texts[index] = schema.of(str, text, "")
            at[index] = seconds if isinstance(seconds, int | float) else math.nan
            if blocks:
                strayed[index] = schema.strays(blocks, self.shape.n_layers)
        return texts, at, strayed

    def norms(self, run: int, first: int = 0, last: int | None = None) -> array[float]:
        """(steps, n_layers) L2 norms of the residual stream after each block, as one row; NaN where unknown."""
        n_layers = self.shape.n_layers
        wanted = range(*slice(first, last).indices(len(self._known(run))))
        found = array("f", [math.nan]) * (len(wanted) * n_layers)
        for at, (data,) in self._along(run, wanted, ("blocks",), "steps JOIN arrays USING (seq)"):
            if isinstance(data, bytes) and len(data) == 4 * n_layers * len(BLOCKS):
                found[at * n_layers : (at + 1) * n_layers] = array("f", data)[BLOCKS.index("norm") :: len(BLOCKS)]
        return found

    def log(self, run: int | None = None) -> Log:
        """What a screen knew at the end of a run, the newest by default. Its steps are read as they are asked for.

        Raises UserError where there is no such run.
        """
        last = next(reversed(self.runs), None) if run is None else self.checked(run)
        log = Log()
        for seq, _, event in self.events():
            if isinstance(event, Started) and log.run == last and event.run != last:
                break
            self._fold(log, seq, event, last)
        if isinstance(log.steps, RecordedSteps):
            written_up_to(log, log.steps, None)
        return log

    def latest(self) -> tuple[Log, int]:
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

    def since(self, seq: int) -> Iterator[tuple[int, Event]]:
        """(seq, what happened) after that seq, in order; of runs before the newest without their steps."""
        run = next(reversed(self.runs), 0)
        seqs = self.seqs(run)
        first = bisect_right(seqs, seq)
        events = [(at, event) for at, _, event in self.events() if at > seq]
        steps: Iterator[tuple[int, Event]] = zip(seqs[first:], self.steps(run, first), strict=False)
        return heapq.merge(events, steps, key=itemgetter(0))

    def _fold(self, log: Log, seq: int, event: Event, last: int | None) -> None:
        """One event into the log, with as many steps as had been written before it."""
        if isinstance(log.steps, RecordedSteps):
            written_up_to(log, log.steps, bisect_left(self._seqs[log.run], seq))
        try:
            log.append(event)
        except (LookupError, ValueError, TypeError, ArithmeticError):
            return  # of the right kind and yet nonsense
        if isinstance(event, Started) and event.run == last:
            log.now.steps = RecordedSteps(self, event.run)

    def _known(self, run: int) -> array[int]:
        return self._seqs.get(run) or self.seqs(run)

    def _along(
        self, run: int, wanted: range, names: Sequence[str], tables: str = "steps"
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """(place in `wanted`, values of these columns) of the steps of a run. Goes by seq, the order on the disk."""
        if not wanted:
            return
        seqs = self._known(run)
        query = f"SELECT step, {', '.join(names)} FROM {tables} WHERE seq BETWEEN ? AND ? AND +run = ?"
        for row in self._rows(query, (seqs[wanted.start], seqs[wanted.stop - 1], run)):
            if isinstance(row[0], int) and row[0] in wanted:
                yield row[0] - wanted.start, row[1:]

    def _names(self, table: str) -> list[str]:
        """Those that the file has, which may be more than we know or fewer."""
        if table not in self._columns:
            described = self._db.execute(f"SELECT * FROM {table} LIMIT 0").description
            self._columns[table] = [name for name, *_ in described]
        return self._columns[table]

    def _token_bytes(self, token_id: int) -> bytes:
        if token_id not in self._vocabulary:
            rows = self._rows("SELECT bytes FROM vocabulary WHERE token_id = ?", (token_id,))
            self._vocabulary[token_id] = next((data for (data,) in rows if isinstance(data, bytes)), b"")
        return self._vocabulary[token_id]

    def _card(self) -> ModelCard | None:
        ready = [event for _, _, event in self.events() if isinstance(event, Ready)]
        return ready[-1].card if ready and _sane(ready[-1].card) else None

    def _shape(self) -> Shape:
        if self.card is not None:
            return Shape(self.card.n_layers, self.card.n_heads)
        try:
            layers, heads = self.header["arrays"]["head_entropy_nats"]["shape"]
            if min(layers, heads) > 0 and layers * heads <= MOST_NUMBERS:
                return Shape(int(layers), int(heads))
        except (KeyError, TypeError, ValueError):
            pass
        return Shape(0, 0)

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
            if self._db.text_factory is _lenient:
                return
            self._db.text_factory = _lenient


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def written_up_to(log: Log, steps: RecordedSteps, n: int | None) -> None:
    steps.limit = n
    if len(steps) and log.state == "reading":
        log.state = "writing"


def _sane(card: ModelCard) -> bool:
    per_block = {len(card.layer_kinds), len(card.windows), len(card.attention)}
    return per_block == {card.n_layers} and card.n_heads > 0 and card.n_layers * card.n_heads <= MOST_NUMBERS


def _opened(path: Path) -> sqlite3.Connection:
    """Read-only, with a schema that is not trusted.

    Raises UserError for what is no trace, or a newer one, and sqlite3.Error for one that is damaged.
    """
    wanted = f"give a {schema.SUFFIX} file, see `tui-entropy traces`"
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError as refused:
        raise UserError(f"the trace {path} cannot be opened ({refused.strerror}): {wanted}") from None
    application, version = (int.from_bytes(head[at : at + 4], "big") for at in (68, 60))
    if head[:16] != schema.MAGIC or application != schema.APPLICATION:
        raise UserError(f"{path} is no trace of tui-entropy: {wanted}")
    if version != schema.VERSION:
        raise UserError(
            f"the trace {path} is of version {version} and this tui-entropy reads version {schema.VERSION}: update it"
        )
    try:
        db = _connected(path, "mode=ro")
    except sqlite3.OperationalError:  # its journal cannot be shared with us: a folder that is not ours
        db = _connected(path, "mode=ro&immutable=1")
    _guard(db)
    return db


def _connected(path: Path, how: str) -> sqlite3.Connection:
    """Raises sqlite3.Error where not even the schema can be read."""
    uri = f"file:{quote(str(path.absolute()))}?{how}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=2)
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
    for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON"):
        db.execute(f"PRAGMA {pragma}")
    try:
        db.execute("SELECT name, type, rootpage, sql FROM sqlite_master").fetchall()
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError("its schema is no text") from error
    return db


def _guard(db: sqlite3.Connection) -> None:
    """From now on only plain tables are read: no view, virtual table or function of the file is ever run."""
    plain = {
        name
        for name, kind, root, sql in db.execute("SELECT name, type, rootpage, sql FROM sqlite_master")
        if kind == "table" and root and str(sql).upper().startswith("CREATE TABLE")
    } & TABLES.keys()

    def allowed(action: int, table: str | None, _: str | None, __: str | None, inside: str | None) -> int:
        reads = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION) or (
            action == sqlite3.SQLITE_READ and table in plain
        )
        return sqlite3.SQLITE_OK if reads and inside is None else sqlite3.SQLITE_DENY

    db.set_authorizer(allowed)


PAGE = 512
"""Steps that are read from the file at once."""


class RecordedSteps(Steps):
    """The steps of a run that are in a file, and behind them those that are appended after it was opened."""

    def __init__(self, trace: Trace, run: int) -> None:
        super().__init__()
        self._trace, self._run = trace, run
        self._recorded = trace.n_steps(run)
        self._texts, self._at, self._strays = trace.outline(run)
        self._pages: dict[int, list[array[float]]] = {}
        self._norm_pages: dict[int, array[float]] = {}
        self.limit = None

    @property
    def limit(self) -> int | None:
        """How many steps count; None for all that there are."""
        return self._limit

    @limit.setter
    def limit(self, wanted: int | None) -> None:
        self._limit = wanted
        n = len(self)
        pairs: tuple[tuple[Any, Any], ...] = (
            (self.texts, self._texts),
            (self.at, self._at),
            (self.strays, self._strays),
        )
        for shown, everything in pairs:
            del shown[n:]
            shown.extend(everything[len(shown) : n])

    def append(self, step: Step) -> None:
        """One that is in the file already is passed over."""
        if step.index < len(self):
            return
        super().append(step)
        self._texts.append(step.text)
        self._at.append(step.at)
        self._strays.append(step.strays)

    def __len__(self) -> int:
        n = self._recorded + len(self._packed)
        return n if self._limit is None else min(n, max(self._limit, 0))

    def norms(self, block: int, first: int = 0, last: int | None = None) -> array[float]:
        n_layers = self._trace.shape.n_layers
        if not n_layers:
            return array("f")
        first, last, _ = slice(first, last).indices(len(self))
        found = array("f")
        for page, start, stop in _pages(first, min(last, self._recorded)):
            if page not in self._norm_pages:
                self._norm_pages[page] = self._trace.norms(self._run, page * PAGE, self._end(page))
            found += self._norm_pages[page][start * n_layers + block - 1 : stop * n_layers : n_layers]
        first = max(first - self._recorded, 0)
        last = max(last - self._recorded, 0)
        return found + self._norms[first * n_layers + block - 1 : last * n_layers : n_layers]

    def _column(self, name: str, first: int, last: int | None) -> array[float]:
        first, last, _ = slice(first, last).indices(len(self))
        found = array("d")
        for page, start, stop in _pages(first, min(last, self._recorded)):
            if page not in self._pages:
                names = list(SERIES_COLUMNS.values())
                self._pages[page] = self._trace.columns(self._run, names, page * PAGE, self._end(page))
            found += self._pages[page][_PLACE[name]][start:stop]
        tail = super()._column(name, max(first - self._recorded, 0), max(last - self._recorded, 0))
        return found + tail

    def _end(self, page: int) -> int:
        return min((page + 1) * PAGE, self._recorded)

    def _read(self, index: int) -> Step:
        if index < self._recorded:
            return self._trace.step(self._run, index)
        return super()._read(index - self._recorded)


_PLACE = {name: place for place, name in enumerate(SERIES_COLUMNS)}


def _pages(first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """(page, first and last of its steps that are wanted) for steps first ... last - 1."""
    while first < last:
        page, start = divmod(first, PAGE)
        stop = min(last - page * PAGE, PAGE)
        yield page, start, stop
        first = page * PAGE + stop
