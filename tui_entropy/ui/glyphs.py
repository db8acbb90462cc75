"""Text from a model, made safe to draw: what a terminal would obey or hide becomes a glyph that can be seen.

Newlines survive in a stream, which breaks its lines there, and become a glyph in a table.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rich.cells import cell_len

INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that draw nothing, or that change the width of their neighbour in some terminals only."""

TABLE = {"\n": "⏎", "\t": "⇥"}
TABLE_ASCII = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


@lru_cache(4096)
def visible(text: str, ascii: bool = False, in_table: bool = False) -> str:
    """`text` with controls, escapes, bidi and format characters, line separators, surrogates, private and
    unassigned characters written out. Newlines stay unless `in_table`; tabs become ⇥."""
    if text.isprintable() and not INVISIBLE.search(text):
        return text
    return "".join(_glyph(char, ascii, in_table) for char in text)


@lru_cache(4096)
def visible_bytes(data: bytes, ascii: bool = False) -> str:
    """A token for a table: its UTF-8 as text with spaces at its ends as ·, and bytes that are no whole character
    as ‹F0 9F›."""
    parts = re.split("([\udc80-\udcff]+)", data.decode("utf-8", "surrogateescape"))
    text = "".join(
        _bracketed(part.encode("utf-8", "surrogateescape").hex(" ").upper(), ascii)
        if "\udc80" <= part[:1] <= "\udcff"
        else visible(part, ascii, in_table=True)
        for part in parts
    )
    body = text.strip(" ")
    dot = "_" if ascii else "·"
    before = len(text) - len(text.lstrip(" "))
    after = len(text) - before - len(body) if body else 0
    return dot * before + _carried(body) + dot * after


def cells(text: str) -> int:
    """Width on screen."""
    return cell_len(text)


def fitted(text: str, width: int, ascii: bool = False) -> str:
    """`text` cut or filled to exactly `width` cells; what is cut ends in …"""
    excess = cell_len(text) - width
    if excess <= 0:
        return text + " " * -excess
    kept, room = "", width - 1
    for char in text:
        room -= cell_len(char)
        if room < 0:
            break
        kept += char
    kept += ("~" if ascii else "…") if width > 0 else ""
    return kept + " " * (width - cell_len(kept))


def _glyph(char: str, ascii: bool, in_table: bool) -> str:
    if char == "\n" and not in_table:
        return char
    table = TABLE_ASCII if ascii else TABLE
    if char in table:
        return table[char]
    code = ord(char)
    if not ascii and (code < 0x20 or code == 0x7F):
        return chr(0x2400 + code) if code < 0x20 else "␡"
    if char.isprintable() and not INVISIBLE.match(char):
        return char
    return _bracketed(f"{code:04X}", ascii)


def _bracketed(inside: str, ascii: bool) -> str:
    return f"<{inside}>" if ascii else f"‹{inside}›"


def _carried(text: str) -> str:
    """A combining mark that opens a cell of a table gets a circle to stand on."""
    return f"◌{text}" if text and not cell_len(text[0]) else text
