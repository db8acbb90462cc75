"""Opens a SQLite file from anywhere, as what it may say and never as what it may do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from tui_entropy.core import files
from tui_entropy.core.errors import UserError
from tui_entropy.records.model import ModelCard
from tui_entropy.trace import schema
from tui_entropy.trace.schema import TABLES

MAX_VALUE_BYTES = 2**25
"""Bytes of one value in a row; a longer one is not ours."""
MAX_TOKEN_BYTES = 2**14
"""Bytes; no tokenizer has one of as many."""
MAX_GRID_NUMBERS = 2**22
"""Of a grid; a model card that asks for more is not ours."""


def open_readonly(path: Path) -> sqlite3.Connection:
    """Read-only, with a schema that is not trusted.

    Raises UserError for what is no trace, or a newer one, and sqlite3.Error for one that is damaged.
    """
    advice = f"give a {schema.SUFFIX} file, see `tui-entropy traces`"
    try:
        with files.open_regular(path) as file:
            head = file.read(72)
    except OSError as refused:
        raise UserError(f"the trace {path} cannot be opened ({refused.strerror}): {advice}") from None
    application, version = (int.from_bytes(head[at : at + 4], "big") for at in (68, 60))
    if head[:16] != schema.MAGIC or application != schema.APPLICATION:
        raise UserError(f"{path} is no trace of tui-entropy: {advice}")
    if version != schema.VERSION:
        raise UserError(
            f"the trace {path} is of version {version} and this tui-entropy reads version {schema.VERSION}: update it"
        )
    try:
        db = _connect(path, "mode=ro")
    except sqlite3.OperationalError:  # its journal cannot be shared with us: a folder that is not ours
        db = _connect(path, "mode=ro&immutable=1")
    _guard(db)
    return db


def _connect(path: Path, how: str) -> sqlite3.Connection:
    """Raises sqlite3.Error where not even the schema can be read."""
    uri = f"file:{quote(str(path.absolute()))}?{how}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=2)
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON"):
        db.execute(f"PRAGMA {pragma}")
    try:
        db.execute("SELECT name, type, rootpage, sql FROM sqlite_master").fetchall()
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError("its schema is no text") from error
    return db


def _guard(db: sqlite3.Connection) -> None:
    """From now on only plain tables are read: no view, virtual table, computed column or function of the file is
    ever run."""
    plain = {
        name
        for name, kind, root, sql in db.execute("SELECT name, type, rootpage, sql FROM sqlite_master")
        if kind == "table" and root and str(sql).upper().startswith("CREATE TABLE")
    } & TABLES.keys()
    plain -= {name for name in plain if any(hidden for *_, hidden in db.execute(f"PRAGMA table_xinfo({name})"))}

    def allowed(action: int, table: str | None, _: str | None, __: str | None, inside: str | None) -> int:
        reads = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION) or (
            action == sqlite3.SQLITE_READ and table in plain
        )
        return sqlite3.SQLITE_OK if reads and inside is None else sqlite3.SQLITE_DENY

    db.set_authorizer(allowed)


def lenient_text(text: bytes) -> str:
    """sqlite3's text_factory for a file whose texts may be damaged."""
    return text.decode("utf-8", "replace")


def is_sane(card: ModelCard) -> bool:
    """True where the model card of a file fits together, and is no reason to run out of memory."""
    per_block = {len(card.layer_kinds), len(card.windows), len(card.attention)}
    has_heads = card.n_heads > 0 or not card.n_layers
    return per_block == {card.n_layers} and has_heads and card.n_layers * card.n_heads <= MAX_GRID_NUMBERS
