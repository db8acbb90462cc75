"""Recovery of a damaged trace: every row on every page that can still be read, without the trees that hold them.

Follows https://www.sqlite.org/fileformat2.html, sections 1.6 (b-tree pages), 2.1 (records) and 1.7 (overflow).
"""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tui_entropy.core.files import bytes_of
from tui_entropy.trace.schema import LATER, PAGE, TABLES, insertion, statements

LEAF = 0x0D
"""The first byte of a page that holds rows of a table."""
INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Serial type -> bytes of the integer."""

ROWID = "INTEGER PRIMARY KEY"
RULE = re.compile(r", (?:UNIQUE|PRIMARY KEY)\(")
"""Behind the columns in the statement that makes a table."""

Row = list[Any]


def recover(path: Path) -> sqlite3.Connection:
    """A database in memory with the rows that were found, which may be none. Raises OSError."""
    found = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    for statement in statements():
        found.execute(statement)
    with found:
        found.execute("BEGIN")
        data = bytes_of(path)
        layouts = {table: tuple(columns) for table, columns in TABLES.items()}
        for _, row in _rows(data, b"CREATE TABLE "):
            layouts |= _layout(row)
        for rowid, row in _rows(data):
            for table, names in layouts.items():
                if (values := _values(table, names, row)) is not None:
                    own = [rowid if kind == ROWID else values.get(name) for name, kind in TABLES[table].items()]
                    found.execute(insertion(table), own)
                    break
    return found


def _layout(row: Row) -> dict[str, tuple[str, ...]]:
    """Table -> the names of its columns in this file, which may be more than we know, or fewer. They are told by the
    row of SQLite's own table that says how it was made."""
    match row:
        case ["table", str(table), _, _, str(statement)] if table in TABLES:
            columns = RULE.split(statement.partition("(")[2])[0]
            return {table: tuple(part.split(" ")[0] for part in columns.split(", "))}
    return {}


def _values(table: str, names: tuple[str, ...], row: Row) -> dict[str, Any] | None:
    """Column -> value, if a row can be of this table: by its length and by what its values are."""
    missing = len(names) - len(row)
    if not 0 <= missing <= LATER.get(table, 0):
        return None
    values = dict(zip(names, row + [None] * missing, strict=True))
    fits = all(_fits(kind, values.get(name)) for name, kind in TABLES[table].items())
    return values if fits else None


def _fits(kind: str, value: object) -> bool:
    match kind.split()[0]:
        case "INTEGER":
            return value is None if "PRIMARY" in kind else isinstance(value, int | None)
        case "REAL":
            return isinstance(value, int | float | None)
        case "TEXT":
            return isinstance(value, str | None)
        case _:
            return isinstance(value, bytes | None)


def _rows(data: bytes, holding: bytes = b"") -> Iterator[tuple[int, Row]]:
    """(rowid, values) of every row on every leaf that holds these bytes."""
    (size,) = struct.unpack_from(">H", data.ljust(18, b"\0"), 16)
    if size not in (2**n for n in range(9, 16)):
        size = 2**16 if size == 1 else PAGE
    for start in range(0, len(data), size):
        page = memoryview(data)[start : start + size]
        head = 0 if start else 100
        if len(page) < size or page[head] != LEAF or data.find(holding, start, start + size) < 0:
            continue
        (count,) = struct.unpack_from(">H", page, head + 3)
        for cell in range(min(count, (size - head - 8) // 2)):
            try:
                (at,) = struct.unpack_from(">H", page, head + 8 + 2 * cell)
                yield _cell(data, page, at)
            except (IndexError, ValueError, struct.error, OverflowError):
                continue


def _cell(data: bytes, page: memoryview, at: int) -> tuple[int, Row]:
    """Raises ValueError, IndexError or struct.error where that is no row."""
    size = len(page)
    length, at = _varint(page, at)
    rowid, at = _varint(page, at)
    if length > len(data) or rowid >= 2**63:
        raise ValueError("longer than the file, or no rowid that we would give")
    least = (size - 12) * 32 // 255 - 23
    local = least + (length - least) % (size - 4)
    local = length if length <= size - 35 else local if local <= size - 35 else least
    parts = [bytes(page[at : at + local])]
    missing, link = length - len(parts[0]), page[at + local : at + local + 4]
    while missing > 0:
        (number,) = struct.unpack(">I", link)
        start = (number - 1) * size
        if number < 1 or start + size > len(data):
            raise ValueError("goes on where the file does not")
        parts.append(data[start + 4 : start + min(size, missing + 4)])
        missing, link = missing - len(parts[-1]), memoryview(data)[start : start + 4]
    return rowid, _record(b"".join(parts))


def _record(payload: bytes) -> Row:
    end, at = _varint(payload, 0)
    body, row = end, []
    while at < end:
        kind, at = _varint(payload, at)
        value, body = _value(payload, kind, body)
        row.append(value)
    return row


def _value(payload: bytes, kind: int, at: int) -> tuple[Any, int]:
    """(value, where the next one begins)."""
    if kind in (0, 8, 9):
        return (None, 0, 1)[kind and kind - 7], at
    size = INTEGERS.get(kind, 8 if kind == 7 else (kind - 12) // 2)
    if kind in (10, 11) or at + size > len(payload):
        raise ValueError("a value beyond its row")
    raw = payload[at : at + size]
    if kind in INTEGERS:
        return int.from_bytes(raw, "big", signed=True), at + size
    if kind == 7:
        return struct.unpack(">d", raw)[0], at + size
    return (raw.decode("utf-8", "replace") if kind % 2 else raw), at + size


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """(number, where the next begins): seven bits a byte, the ninth whole."""
    number = 0
    for last in range(at, at + 8):
        number = number << 7 | data[last] & 0x7F
        if data[last] < 0x80:
            return number, last + 1
    return number << 8 | data[at + 8], at + 9
