"""CSV that a spreadsheet opens: UTF-8 with a byte order mark, commas, one row per token.

A spreadsheet runs a cell as a formula if it begins with = + - or @, also behind white space. So a text that does, or
that begins with white space other than a space or with an apostrophe, gets an apostrophe in front: whoever reads the
file with a program takes one leading apostrophe off again and has the text. Bytes are written as x and hexadecimal
digits, since a cell such as 31e5 or 0x20 would be read as a number.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Any, BinaryIO

from tui_entropy.export.columns import COLUMNS, rows
from tui_entropy.export.recorded_run import Recording

RISKY = re.compile(r"[^\S ]|'|\s*[=+\-@＝＋－＠]")


def write(recording: Recording, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    out = csv.writer(text)
    out.writerow(COLUMNS)
    for _, row in rows(recording):
        out.writerow(map(cell, row))
    text.detach()


def cell(value: Any) -> Any:
    match value:
        case str() if RISKY.match(value):
            return f"'{value}"
        case bytes():
            return f"x{value.hex()}"
        case _:
            return value
