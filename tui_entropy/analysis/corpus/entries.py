"""The texts of a file or of stdin: all of it, a line each, a field of each JSON line, or a column of a table.

What is no text is an entry too, with the reason, so that it can be named and left out.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import open_regular
from tui_entropy.records.bounds import MAX_CHARS

JSON_LINES = (".jsonl", ".ndjson")
TABLES = {".csv": ",", ".tsv": "\t"}
STDIN = "-"
FIELD = "text"
"""What a text is called where nobody says otherwise."""


@dataclass(frozen=True)
class Entry:
    """One text, or the place where there is none."""

    place: str
    """For people: 'sentences.txt line 3'."""
    text: str
    reason: str = ""
    """Why it is no text, in half a sentence; empty for one that is."""


def check(name: str) -> None:
    """Raise UserError for a file that cannot be read, before anything large begins."""
    if name != STDIN:
        with _opened(name) as lines:
            lines.buffer.read(1)


def documents(name: str, field: str | None = None) -> Iterator[Entry]:
    """The texts of a file: all of a plain one, a field of each JSON line, a column of a table. Raises UserError for a
    file that cannot be read."""
    if _kind(name) == "plain":
        with _opened(name) as lines:
            text = lines.read(MAX_CHARS + 1)
        yield _checked(_label(name), text)
    else:
        yield from sentences(name, field)


def sentences(name: str, field: str | None = None) -> Iterator[Entry]:
    """The same, where each line of a plain file is a text; empty lines are passed over. Raises UserError."""
    with _opened(name) as lines:
        match _kind(name):
            case "plain":
                yield from _plain(_label(name), lines)
            case "json lines":
                yield from _json_lines(_label(name), lines, field or FIELD)
            case delimiter:
                yield from _table(_label(name), lines, field or FIELD, delimiter)


def _kind(name: str) -> str:
    """'plain', 'json lines', or what the cells of a table are set apart by."""
    suffix = "" if name == STDIN else Path(name).suffix.lower()
    return "json lines" if suffix in JSON_LINES else TABLES.get(suffix, "plain")


def _label(name: str) -> str:
    return "stdin" if name == STDIN else Path(name).name


@contextmanager
def _opened(name: str) -> Iterator[io.TextIOWrapper]:
    """As text in which bytes that are none are surrogates."""
    try:
        binary = sys.stdin.buffer if name == STDIN else open_regular(Path(name))
    except OSError as refused:
        raise UserError(
            f"{name} cannot be read ({refused.strerror}): name a file of texts, or - for stdin"
        ) from refused
    lines = io.TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline="")
    try:
        yield lines
    except OSError as refused:
        raise UserError(f"{name} cannot be read ({refused.strerror}): name a file of texts") from refused
    finally:
        lines.detach() if name == STDIN else lines.close()


def _plain(label: str, lines: Iterable[str]) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _checked(f"{label} line {number}", line.strip("\r\n"))


def _json_lines(label: str, lines: Iterable[str], field: str) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{label} line {number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Entry(place, "", f"it is no JSON ({str(error).partition(':')[0]})")
            continue
        text = found.get(field) if isinstance(found, dict) else found
        if isinstance(text, str):
            yield _checked(place, text)
        elif isinstance(found, dict) and field not in found:
            yield Entry(place, "", f"it has no field {field!r}")
        else:
            yield Entry(place, "", f"its {field!r} is no text" if isinstance(found, dict) else "it is no text")


def _table(label: str, lines: Iterable[str], field: str, delimiter: str) -> Iterator[Entry]:
    """A row begins at a line of its own; a quoted cell may go over several."""
    csv.field_size_limit(MAX_CHARS)
    rows = csv.reader(_without_nul(lines), delimiter=delimiter)
    try:
        names = next(rows, [])
    except csv.Error as error:
        raise UserError(f"{label} is no table ({error}): name one whose first row names its columns") from None
    if field not in names:
        known = ", ".join(names[:20])
        raise UserError(f"{label} has no column {field!r}, and it has {known or 'none'}: name one with --field")
    column = names.index(field)
    while True:
        place = f"{label} line {rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Entry(place, "", f"it is no row of a table ({error})")
            continue
        if row and column >= len(row):
            yield Entry(place, "", f"it has {len(row)} cells and {field!r} is the {column + 1}th")
        elif row:
            yield _checked(place, row[column])


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    yield from (line.replace("\0", "\ufffd") for line in lines)


def _checked(place: str, text: str) -> Entry:
    if not text.strip():
        return Entry(place, "", "it is empty")
    if len(text) > MAX_CHARS:
        return Entry(place, "", f"it has more than {MAX_CHARS} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Entry(place, "", "it is no UTF-8")
    return Entry(place, text)
