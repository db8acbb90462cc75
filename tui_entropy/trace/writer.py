"""Writes a trace: every event as it happens, on a thread of its own, so that the loop never waits for a disk."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from tui_entropy import __version__
from tui_entropy.core.errors import UserError
from tui_entropy.metrics.registry import SCORE_COLUMNS
from tui_entropy.records.events import (
    Differences,
    Event,
    KnobsChanged,
    Labelled,
    Memory,
    Progress,
    PromptScores,
    Proposed,
    Ready,
    Started,
)
from tui_entropy.records.probes.ask import ProbeAnswer, ProbeProgress
from tui_entropy.records.quantised_rows import FORM
from tui_entropy.records.step import Step
from tui_entropy.trace import schema, step_codec
from tui_entropy.trace.reader import Trace

UNKEPT = (Progress, Memory, Proposed, ProbeProgress, Differences)
"""What is only of the moment."""
NEWS = (Started, Step, Labelled, KnobsChanged, ProbeAnswer)
"""What is worth a file: one in which none of it happened is removed at the end."""
MAX_JOURNAL_BYTES = 2**22
"""Bytes that the journal grows to before it is worked into the file, which waits for the disk."""


def refuse(sentence: str) -> None:
    raise UserError(sentence)


class Recorder:
    """One file. Steps are written within `max_wait` seconds, several in a transaction; all else at once.

    A path of None records nothing. Where `path` is taken the file gets a number behind its name. If it cannot be made
    or written, `complain` is told in one sentence, once, in the thread that calls, and nothing is recorded from then
    on; without it that is a UserError.
    """

    def __init__(
        self,
        path: Path | None,
        complain: Callable[[str], object] = refuse,
        *,
        origin: Path | None = None,
        max_wait: float = 0.1,
    ) -> None:
        """origin: a trace whose session goes on in this one, which begins as a copy of it. Raises UserError for one
        that cannot be read."""
        self.path: Path | None = None
        """The file that is written; None for none, or none any more."""
        self._complain, self._max_wait = complain, max_wait
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, Event]] = []
        self._urgent = self._busy = self._closing = False
        self._failure: str | None = None
        self._written = 0.0
        self._seq = 0
        self._words: set[int] = set()
        self._prompts: dict[int, int] = {}
        """Of each run that began, a hash."""
        self._has_news = False
        """Something happened that is worth a file."""
        self._db: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._thread = threading.Thread(target=self._write_on, name="recorder", daemon=True)
        if path is not None:
            try:
                self._begin(path)
                if origin is not None:
                    self._copy(Trace.open(origin))
            except (OSError, sqlite3.Error) as error:
                self._give_up()
                self.path = None
                complain(f"nothing is recorded: the trace {path} cannot be written ({error}); see --trace")
                return
            self._thread.start()

    @property
    def name(self) -> str | None:
        """The whole path of the file, as text."""
        return None if self.path is None else str(self.path.absolute())

    def take(self, event: Event) -> None:
        """Costs next to nothing; the event is in the file within `max_wait` seconds."""
        passing = isinstance(event, UNKEPT) or (isinstance(event, ProbeAnswer) and not event.record)
        if self._db is None or passing:
            return
        with self._changed:
            self._waiting.append((time.time(), event))
            self._urgent = self._urgent or not isinstance(event, Step)
            if self._urgent or len(self._waiting) == 1:
                self._changed.notify_all()
        self._tell_failure()

    def flush(self) -> None:
        """Returns when everything taken is in the file."""
        if self._db is None:
            return
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._failure or not (self._waiting or self._busy))
        self._tell_failure()

    def close(self) -> None:
        """Write what is left, and leave one file that needs none beside it."""
        if self._db is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._tell_failure()
        self._give_up()

    def _tell_failure(self) -> None:
        if self._failure is not None:
            self._thread.join()
            self._give_up()
            failure, self._failure, self.path = self._failure, None, None
            self._complain(failure)

    def _give_up(self) -> None:
        if self._db is not None:
            # Not while somebody reads it, nor on a full disk: then it is whole with its journal beside it.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout=0")
                self._db.execute("PRAGMA journal_mode=DELETE")
            self._db.close()
            if not self._has_news and self.path is not None:
                self.path.unlink(missing_ok=True)
        self._db = None

    def _begin(self, path: Path) -> None:
        """Raises OSError or sqlite3.Error."""
        self.path = _fresh(path)
        self._identity = _identity(self.path)
        self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA page_size={schema.PAGE}")
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute(f"PRAGMA application_id={schema.APPLICATION}")
            self._db.execute(f"PRAGMA user_version={schema.VERSION}")
            for statement in schema.statements():
                self._db.execute(statement)
            self._tell("program", f"tui-entropy {__version__}")
            self._tell("created", time.strftime("%Y-%m-%dT%H:%M:%S%z"))
            self._tell("units", "information is in nats; a unit stands at the end of the name of its column")
            self._tell("holds", "the prompts and everything that was written")
        # Only now, so that the file says what it is even without its journal.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"wal_autocheckpoint={MAX_JOURNAL_BYTES // schema.PAGE}",
        ):
            self._db.execute(f"PRAGMA {pragma}")

    def _copy(self, origin: Trace) -> None:
        """Begin with every row of another file: they are data, and nothing else of it is taken over. Raises
        sqlite3.Error."""
        assert self._db is not None
        told = dict(self._db.execute("SELECT key, value FROM header"))
        with self._db, contextlib.closing(origin):
            self._db.execute("BEGIN")
            for table in schema.TABLES:
                for row in origin.table(table):
                    with contextlib.suppress(sqlite3.IntegrityError):  # of a file whose rows are odd
                        self._put(table, row)
            for key, value in told.items():
                self._put("header", (key, value))
            if origin.shape.rows_form != FORM:
                self._db.execute("UPDATE arrays SET attention_rows = NULL")
            self._prompts = {
                event.run: hash(event.prompt_tokens) for _, _, event in origin.events() if isinstance(event, Started)
            }
        self._words = {token_id for (token_id,) in self._db.execute("SELECT token_id FROM vocabulary")}
        newest = [self._db.execute(f"SELECT max(seq) FROM {table}").fetchone()[0] for table in ("events", "steps")]
        self._seq = max(seq or 0 for seq in newest)

    # --- On the thread ---------------------------------------------------------------------------------------

    def _write_on(self) -> None:
        while batch := self._next_batch():
            failure = ""
            try:
                self._commit(batch)
            except Exception as error:
                failure = (
                    f"the trace {self.path} cannot be written any more ({error}): what was recorded stays, "
                    "the text goes on unrecorded"
                )
            if not self._is_there():  # its pages go where nobody can read them
                failure = f"the trace {self.path} was removed while it was written: the text goes on unrecorded"
            if failure:
                with self._changed:
                    self._failure = failure
                    self._changed.notify_all()
                return

    def _is_there(self) -> bool:
        """True while the name still leads to the file that is written."""
        try:
            return self.path is not None and _identity(self.path) == self._identity
        except OSError:
            return False

    def _next_batch(self) -> list[tuple[float, Event]]:
        """The events to write next, once there are some and they may be written. Empty at the end."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closing)
            patience = self._written + self._max_wait - time.monotonic()
            self._changed.wait_for(lambda: self._urgent or self._closing, max(patience, 0))
            batch, self._waiting = self._waiting, []
            self._busy, self._urgent = True, False
        self._written = time.monotonic()
        return batch

    def _commit(self, batch: list[tuple[float, Event]]) -> None:
        assert self._db is not None
        with self._db:
            self._db.execute("BEGIN")
            for wall, event in batch:
                self._seq += 1
                self._has_news = self._has_news or isinstance(event, NEWS)
                if isinstance(event, Step):
                    self._step(wall, event)
                else:
                    self._event(wall, event)

    def _step(self, wall: float, step: Step) -> None:
        if self._seq == 1 or not self._words:
            self._tell("arrays", step_codec.shapes(step))
        self._meet(step_codec.tokens(step))
        self._put("steps", step_codec.step_row(self._seq, wall, step))
        self._put("arrays", step_codec.arrays_row(self._seq, step))

    def _event(self, wall: float, event: Event) -> None:
        if isinstance(event, Started):
            event = self._meet_run(event)
        text = msgspec.json.encode(event).decode()
        kind = type(event).__struct_config__.tag
        run = event.branch if isinstance(event, Labelled) else getattr(event, "run", None)
        self._put("events", (self._seq, run, getattr(event, "index", None), kind, wall, text))
        match event:
            case Ready():
                self._tell("model", event.card)
            case Started():
                origin = event.run, event.parent, None if event.parent is None else event.shared
                self._put("branches", (*origin, "", 0, event.prompt, event.system, event.chat, wall, 0))
                unscored = (None,) * len(SCORE_COLUMNS)
                for position, token in enumerate(event.prompt_tokens):
                    token_columns = (event.run, position, token.token_id, token.text, token.token_bytes)
                    self._put("prompt_tokens", (*token_columns, *unscored))
            case Labelled():
                query = "UPDATE branches SET name = ?, starred = ?, deleted = ? WHERE run = ?"
                self._execute(query, (event.name, event.starred, event.deleted, event.branch))
            case PromptScores():
                names = ", ".join(f"{SCORE_COLUMNS[name]} = ?" for name in event.names)
                for position, row in enumerate(event.scores.rows(), event.first):
                    query = f"UPDATE prompt_tokens SET {names} WHERE run = ? AND position = ?"
                    self._execute(query, (*row, event.run, position))

    def _meet_run(self, started: Started) -> Started:
        """As it is kept: a branch that goes on from the prompt of its parent has no other tokens."""
        self._prompts[started.run] = prompt = hash(started.prompt_tokens)
        same = started.parent is not None and self._prompts.get(started.parent) == prompt
        return replace(started, prompt_tokens=()) if same else started

    def _meet(self, tokens: list[tuple[int, bytes]]) -> None:
        for token_id, data in tokens:
            if token_id not in self._words:
                self._words.add(token_id)
                self._put("vocabulary", (token_id, data, data.decode("utf-8", "replace")))

    def _tell(self, key: str, value: object) -> None:
        self._put("header", (key, msgspec.json.encode(value).decode()))

    def _put(self, table: str, row: tuple[Any, ...]) -> None:
        self._execute(INSERTIONS[table], row)

    def _execute(self, query: str, row: tuple[Any, ...]) -> None:
        assert self._db is not None
        self._db.execute(query, row)


HELD_FROM, HELD_BYTES = 0x40000002, 510
"""The bytes of a file on which SQLite has a lock as long as it keeps a journal of writes beside it. Source:
https://www.sqlite.org/src/file/src/os.h, SHARED_FIRST and SHARED_SIZE."""

INSERTIONS = {table: schema.insertion(table) for table in schema.TABLES}


def has_writer(path: Path) -> bool:
    """True while another process than this one records in a file. Asked before this one opens it: what closes a file
    gives up every lock that its process has on it."""
    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, HELD_BYTES, HELD_FROM)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode of the file that a name leads to. Raises OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _fresh(path: Path) -> Path:
    """An empty file that only this user can open, of this name or the next one that is free. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in itertools.count(2):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            return path
        except FileExistsError:
            path = path.with_name(f"{path.stem.removesuffix(f'-{number - 1}')}-{number}{path.suffix}")
    raise AssertionError
