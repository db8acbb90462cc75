"""Reads a trace: what a session left behind, or is writing now. The file is data from anywhere and never believed."""

from __future__ import annotations

import heapq
import json
import math
import sqlite3
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from tui_entropy import schema
from tui_entropy.errors import UserError
from tui_entropy.log import Log
from tui_entropy.records import BLOCKS, Event, ModelCard, Ready, Started, Step
from tui_entropy.schema import SERIES_COLUMNS, STEP, TABLES, Shape
from tui_entropy.steps import Steps

LARGEST = 2**25
"""Bytes of one value in a row; a longer one is not ours."""
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

    @classmethod
    def open(cls, path: Path) -> Trace:
        """Raises UserError for what is missing, foreign, newer, or too damaged to tell."""
        return cls(path, _opened(path))

    def close(self) -> None:
        self._db.close()

    @property
    def runs(self) -> tuple[int, ...]:
        """In the order they began."""
        began = [run for (run,) in self._rows("SELECT run FROM events WHERE kind = 'started' ORDER BY seq")]
        return tuple(dict.fromkeys(run for run in began if isinstance(run, int)))

    def events(self, run: int | None = None) -> Iterator[tuple[int, float, Event]]:
        """(seq, seconds since 1970, event) of everything but steps, oldest first. run: of that run only."""
        where = "" if run is None else "WHERE run = ? "
        query = f"SELECT seq, wall, json FROM events {where}ORDER BY seq"
        for seq, wall, told in self._rows(query, () if run is None else (run,)):
            try:
                yield seq, float(wall), msgspec.json.decode(told, type=Event)
            except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
                continue  # a kind that this version does not know

    def n_steps(self, run: int) -> int:
        return len(self.seqs(run))

    def seqs(self, run: int) -> array[int]:
        """The seq of each step of a run, the first step first."""
        found = self._seqs.get(run)
        if found is None:
            found = self._seqs[run] = array("q")
        self._look_for_more(run, found)
        return found

    def step(self, run: int, index: int) -> Step:
        """Raises IndexError where there is none."""
        index = range(len(self._seqs.get(run) or self.seqs(run)))[index]
        return next(self.steps(run, index, index + 1))

    def steps(self, run: int, first: int = 0, last: int | None = None) -> Iterator[Step]:
        """Steps first ... last - 1, read as they are asked for."""
        seqs = self._seqs.get(run) or self.seqs(run)
        for index in range(*slice(first, last).indices(len(seqs))):
            row: dict[str, Any] = {}
            for table in ("steps", "arrays"):
                names = [name for name in TABLES[table] if name != "seq"]
                for values in self._rows(f"SELECT {', '.join(names)} FROM {table} WHERE seq = ?", (seqs[index],)):
                    row |= zip(names, values, strict=True)
            yield schema.restored(run, index, row, self.shape, self._token_bytes)

    def column(self, run: int, name: str, first: int = 0, last: int | None = None) -> array[float]:
        """A column of `steps` (schema.STEP) along the text; NaN where it is unknown."""
        (found,) = self.columns(run, (name,), first, last)
        return found

    def columns(
        self, run: int, names: tuple[str, ...], first: int = 0, last: int | None = None
    ) -> list[array[float]]:
        """Several columns of `steps` for steps first ... last - 1; NaN where one is unknown."""
        wanted = range(*slice(first, last).indices(len(self._seqs.get(run) or self.seqs(run))))
        found = [array("d") for _ in names]
        assert set(names) <= STEP.keys()
        for row in self._rows(_ALONG.format(", ".join(names)), (run, wanted.start, wanted.stop)):
            for numbers, value in zip(found, row, strict=True):
                numbers.append(value if isinstance(value, int | float) else math.nan)
        for numbers in found:
            numbers.extend([math.nan] * (len(wanted) - len(numbers)))
        return found

    def texts(self, run: int, first: int = 0, last: int | None = None) -> list[str]:
        wanted = range(*slice(first, last).indices(len(self._seqs.get(run) or self.seqs(run))))
        rows = self._rows(_ALONG.format("text"), (run, wanted.start, wanted.stop))
        found = [text if isinstance(text, str) else "" for (text,) in rows]
        return found + [""] * (len(wanted) - len(found))

    def along(self, run: int) -> tuple[list[str], array[float], list[tuple[int, ...]]]:
        """Text, seconds of work and strays of every step of a run, as Steps keeps them."""
        texts: list[str] = []
        at: array[float] = array("d")
        strayed: list[tuple[int, ...]] = []
        n = self.n_steps(run)
        for text, seconds, blocks in self._rows(_ALONG.format("text, at_seconds, stray_blocks"), (run, 0, n)):
            texts.append(text if isinstance(text, str) else "")
            at.append(seconds if isinstance(seconds, int | float) else math.nan)
            strayed.append(schema.strays(blocks, self.shape.n_layers) if blocks else ())
        missing = n - len(texts)
        return texts + [""] * missing, at + array("d", [math.nan]) * missing, strayed + [()] * missing

    def norms(self, run: int, first: int, last: int) -> array[float]:
        """(last - first) * n_layers L2 norms of the residual stream after each block, float32; NaN where unknown."""
        n_layers = self.shape.n_layers
        unknown = array("f", [math.nan]) * (n_layers * len(BLOCKS))
        found = array("f")
        query = "SELECT blocks FROM arrays WHERE seq = ?"
        for seq in self.seqs(run)[first:last]:
            data = next((data for (data,) in self._rows(query, (seq,)) if isinstance(data, bytes)), b"")
            numbers = array("f", data) if len(data) == 4 * len(unknown) else unknown
            found += numbers[BLOCKS.index("norm") :: len(BLOCKS)]
        return found

    def log(self, run: int | None = None) -> Log:
        """What a screen knew at the end of a run, the newest by default. Its steps are read as they are asked for.

        Raises UserError where there is no such run.
        """
        runs = self.runs
        if run is not None and run not in runs:
            raise UserError(f"{self.path} has no run {run}: it has {', '.join(map(str, runs)) or 'none'}")
        last = runs[-1] if run is None and runs else run
        log = Log()
        for seq, _, event in self.events():
            if isinstance(event, Started) and log.run == last and event.run != last:
                break
            self._fold(log, seq, event, last)
        if isinstance(log.steps, RecordedSteps):
            _written_up_to(log, log.steps, None)
        return log

    def latest(self) -> tuple[Log, int]:
        """The newest run as it is at one moment, and the seq of the last thing that had happened by then, 0 for none.

        Of a file that is being written: what it is told by `since` that seq is all that the log lacks.
        """
        for _ in self._rows("BEGIN"):
            pass
        try:
            ends = (seq for table in ("events", "steps") for (seq,) in self._rows(f"SELECT max(seq) FROM {table}"))
            return self.log(), max((seq for seq in ends if isinstance(seq, int)), default=0)
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
            _written_up_to(log, log.steps, bisect_left(self._seqs[log.run], seq))
        try:
            log.append(event)
        except (LookupError, ValueError, TypeError, ArithmeticError):
            return  # of the right kind and yet nonsense
        if isinstance(event, Started) and event.run == last:
            log.steps = RecordedSteps(self, event.run)

    def _look_for_more(self, run: int, found: array[int]) -> None:
        for step, seq in self._rows(
            "SELECT step, seq FROM steps WHERE run = ? AND step >= ? ORDER BY step", (run, len(found))
        ):
            if step != len(found):
                break
            found.append(seq)

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
            if min(layers, heads) >= 0 and layers * heads <= MOST_NUMBERS:
                return Shape(int(layers), int(heads))
        except (KeyError, TypeError, ValueError):
            pass
        return Shape(0, 0)

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """As many as can be read."""
        try:
            yield from self._db.execute(query, values)
        except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
            self.damage = self.damage or str(error)


_ALONG = "SELECT {} FROM steps WHERE run = ? AND step >= ? AND step < ? ORDER BY step"


def _written_up_to(log: Log, steps: RecordedSteps, n: int | None) -> None:
    steps.limit = n
    if len(steps) and log.state == "reading":
        log.state = "writing"


def _sane(card: ModelCard) -> bool:
    per_block = {len(card.layer_kinds), len(card.windows), len(card.attention)}
    return per_block == {card.n_layers} and 0 <= card.n_layers * card.n_heads <= MOST_NUMBERS and card.n_heads >= 0


def _opened(path: Path) -> sqlite3.Connection:
    """Read-only, with a schema that is not trusted. Raises UserError."""
    try:
        with path.open("rb") as file:
            magic = file.read(16)
    except OSError as missing:
        raise UserError(f"there is no trace {path} ({missing.strerror}): see `tui-entropy traces`") from None
    if magic != b"SQLite format 3\0":
        raise UserError(f"{path} is no trace of tui-entropy: give a {schema.SUFFIX} file, see `tui-entropy traces`")
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=2)
    for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON"):
        db.execute(f"PRAGMA {pragma}")
    return db


PAGE = 512
"""Steps that are read from the file at once."""


class RecordedSteps(Steps):
    """The steps of a run that are in a file, and behind them those that are appended after it was opened."""

    def __init__(self, trace: Trace, run: int) -> None:
        super().__init__()
        self._trace, self._run = trace, run
        self._recorded = trace.n_steps(run)
        self._texts, self._at, self._strays = trace.along(run)
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
                columns = tuple(SERIES_COLUMNS.values())
                self._pages[page] = self._trace.columns(self._run, columns, page * PAGE, self._end(page))
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
