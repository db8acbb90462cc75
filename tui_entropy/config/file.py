"""The file of settings, config.toml: where each value stands, and one value changed with all else left as it is.

A person writes it and so does the program, several of which may run. What the program changes is one value; the rest,
with comments and what it does not know, stays letter by letter, and what comes of it is parsed before it is kept.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.core.files import text_of

NAME = r"[A-Za-z0-9_-]+|\"[^\"\\\n]*\"|'[^'\n]*'"
HEADER = rf"\s*\[\s*(?P<name>(?:{NAME})(?:\s*\.\s*(?:{NAME}))*)\s*\]\s*(#.*)?$"
ENTRY = rf"\s*(?P<name>(?:{NAME})(?:\s*\.\s*(?:{NAME}))*)\s*="
FIRST_LINE = "# Settings of tui-entropy: `tui-entropy config` tells each of them, and where it comes from.\n"
"""Of a file that the program begins."""


def parsed(text: str, path: Path) -> dict[str, Any]:
    """All that a file says. Raises UserError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is no TOML ({error}): mend that place, or remove the file") from error


def text(path: Path) -> str:
    """The text of the file; empty where there is none. Raises UserError."""
    try:
        return text_of(path)
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): put that right, or remove it") from error


def flat(table: Mapping[str, Any], is_value: Callable[[str], bool], above: str = "") -> Iterator[tuple[str, Any]]:
    """(name such as 'sampling.top_p', value) of everything in a table. is_value: of names whose tables are values."""
    for key, value in table.items():
        if isinstance(value, dict) and not is_value(above + key):
            yield from flat(value, is_value, f"{above}{key}.")
        else:
            yield above + key, value


def places(text: str) -> dict[str, int]:
    """Name -> index of the line that it stands on, as far as lines tell that by themselves."""
    found: dict[str, int] = {}
    table = ""
    for at, line in enumerate(_lines(text)):
        if header := re.match(HEADER, line):
            table = _plain(header["name"]) + "."
            found.setdefault(table, at)
        elif entry := re.match(ENTRY, line):
            found.setdefault(table + _plain(entry["name"]), at)
    return found


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in re.findall(NAME, name))


def changed(text: str, name: str, value: object) -> str:
    """The text with one value set. Raises UserError where the file is written in a way that lines do not tell."""
    after = "".join(f"{line}\n" for line in _with_entry(text, name, value))
    try:
        kept = tomllib.loads(after) == _with_value(tomllib.loads(text), name, value)
    except (tomllib.TOMLDecodeError, TypeError):
        kept = False
    if not kept:
        raise UserError(
            f"{name} cannot be set in the file of settings without changing more: write it there yourself"
        )
    return after


def _with_value(said: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    """What a file says, with one value set. Raises TypeError where what should be a table is none."""
    *tables, key = name.split(".", 1)
    inner = said.setdefault(tables[0], {}) if tables else said
    inner[key] = value
    return said


def _with_entry(text: str, name: str, value: object) -> list[str]:
    """The lines, with one entry replaced, or added where it belongs."""
    table, _, key = name.rpartition(".")
    lines, where, entry = _lines(text), places(text), f"{key} = {literal(value)}"
    if name in where:
        first, last, comment = _extent(lines, where[name])
        own = re.match(ENTRY, lines[first])
        assert own
        lines[first : last + 1] = [f"{own[0]} {literal(value)}{comment}"]
    elif not table:
        tops = [at for known, at in where.items() if "." not in known]
        intro = len(list(takewhile(lambda line: line.startswith("#"), lines)))
        lines.insert(_extent(lines, max(tops))[1] + 1 if tops else intro, entry)
    elif f"{table}." in where:
        lines.insert(where[f"{table}."] + 1, entry)
    else:
        lines += [*([""] if lines else []), f"[{table}]", entry]
    return lines


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _extent(lines: list[str], first: int) -> tuple[int, int, str]:
    """The lines of the entry that begins there, first and last, and the comment behind it."""
    entry = re.match(ENTRY, lines[first])
    assert entry
    for last in range(first, len(lines)):
        value = "\n".join([lines[first][entry.end() :], *lines[first + 1 : last + 1]])
        for cut in [at for at, letter in enumerate(value) if letter == "#"] + [len(value)]:
            with suppress(tomllib.TOMLDecodeError):
                tomllib.loads(f"x = {value[:cut]}")
                bare = value[:cut].rstrip()
                return first, last, value[len(bare) :]
    return first, first, ""


def literal(value: object) -> str:
    """A value as TOML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def keep(path: Path, values: Mapping[str, object]) -> None:
    """Set values in the file, whole or not at all; nothing is written where it says so already. Another program that
    does the same waits. Raises UserError."""
    try:
        with _alone():
            before = after = text(path)
            parsed(before, path)
            for name, value in values.items():
                after = changed(after or FIRST_LINE, name, value)
            if after != before:
                _replace(path, after)
    except OSError as refused:
        raise UserError(
            f"{path} cannot be written ({refused.strerror}): the change holds until you leave"
        ) from refused


@contextmanager
def _alone() -> Iterator[None]:
    import fcntl

    paths.state().mkdir(parents=True, exist_ok=True)
    with open(paths.state() / "config.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, text: str) -> None:
    """Where the name is a link, what it leads to: such files are kept elsewhere and linked here."""
    import tempfile

    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        with suppress(FileNotFoundError):
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
