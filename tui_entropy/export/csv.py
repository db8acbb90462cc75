"""CSV that a spreadsheet opens: UTF-8 with a byte order mark, commas, one row per token.

A text that a spreadsheet would run has an apostrophe in front, as core/escape.py says. Bytes are written as x and hex
digits, since a cell such as 31e5 or 0x20 would be read as a number.
"""

from __future__ import annotations

import csv
import io
from typing import Any, BinaryIO

from tui_entropy.core.escape import text_cell
from tui_entropy.export.columns import COLUMNS, rows
from tui_entropy.export.recorded_run import Recording


def write(recording: Recording, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    out = csv.writer(text)
    out.writerow(COLUMNS)
    for _, row in rows(recording):
        out.writerow(map(cell, row))
    text.detach()


def cell(value: Any) -> Any:
    match value:
        case str():
            return text_cell(value)
        case bytes():
            return f"x{value.hex()}"
        case _:
            return value
