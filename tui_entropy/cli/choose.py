"""A trace that a command is about: by name, or chosen from a list where none is given."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tui_entropy.cli.usage import WrongUsage
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import say

MAX_LISTED = 20
"""Traces in the list, the newest."""
WANTED = "`last`, a name of `tui-entropy traces` or a part of it, or a path"


def chosen_trace(name: str | None) -> Path:
    """The trace of that name, or the one that a person chooses in the terminal. Raises UserError."""
    from tui_entropy.trace.library import LAST, files, resolve

    if name is not None:
        return resolve(name)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongUsage(f"no trace is named, and there is no terminal to choose one in: give {WANTED}")
    newest = files()[:MAX_LISTED]
    if not newest:
        return resolve(LAST)
    _list(newest)
    say(f"Which one? A number, {WANTED}; enter alone takes 1.")
    answer = sys.stdin.readline()
    if not answer:
        raise UserError("none was chosen, so nothing is done")
    answer = answer.strip() or "1"
    if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= len(newest):
        return newest[int(answer) - 1]
    return resolve(answer)


def _list(newest: Sequence[Path]) -> None:
    from tui_entropy.core import text_table
    from tui_entropy.trace.library import row, summary

    rows = [(str(n), *row(summary(path))[1:]) for n, path in enumerate(newest, 1)]
    width = shutil.get_terminal_size().columns
    for line in text_table.lines([("", "when", "model", "runs", "tokens", "size", "prompt"), *rows]):
        say(line[:width])
