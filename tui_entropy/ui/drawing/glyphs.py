"""A token's bytes as text that can be drawn, and texts cut to their place. What is safe to draw escape.py says."""

from __future__ import annotations

import re
from functools import lru_cache

from rich.cells import cell_len

from tui_entropy.core.escape import INVISIBLE, bracketed, visible
from tui_entropy.records.step import NO_ID

__all__ = ["INVISIBLE", "cells", "fitted", "nameless", "visible", "visible_bytes", "visible_token"]

OF_NUMBERS = "0123456789.,+-"


@lru_cache(4096)
def visible_bytes(data: bytes, ascii: bool = False) -> str:
    """A token for a table: its UTF-8 as text with spaces at its ends as ·, and bytes that are no whole character
    as ‹F0 9F›."""
    parts = re.split("([\udc80-\udcff]+)", data.decode("utf-8", "surrogateescape"))
    text = "".join(
        bracketed(part.encode("utf-8", "surrogateescape").hex(" ").upper(), ascii)
        if "\udc80" <= part[:1] <= "\udcff"
        else visible(part, ascii, in_table=True)
        for part in parts
    )
    body = text.strip(" ")
    dot = "_" if ascii else "·"
    before = len(text) - len(text.lstrip(" "))
    after = len(text) - before - len(body) if body else 0
    return dot * before + _carried(body) + dot * after


def visible_token(token_id: int, data: bytes, ascii: bool = False) -> str:
    """A token for a table. One without text, as rows have that fill a vocabulary up, is called by its number."""
    return visible_bytes(data, ascii) if data else nameless(token_id, ascii)


def nameless(token_id: int, ascii: bool = False) -> str:
    """The name of a token without text; of one that nobody told even the id of, a question mark."""
    return bracketed("?" if token_id == NO_ID else f"token {token_id}", ascii)


def cells(text: str) -> int:
    """Width on screen."""
    return cell_len(text)


def fitted(text: str, width: int, ascii: bool = False) -> str:
    """`text` cut or filled to exactly `width` cells; what is cut ends in …, which never stands behind a digit, since
    part of a number is another number."""
    excess = cell_len(text) - width
    if excess <= 0:
        return text + " " * -excess
    kept, room = "", width - 1
    for char in text:
        room -= cell_len(char)
        if room < 0:
            break
        kept += char
    kept = kept.rstrip(OF_NUMBERS)
    kept += ("~" if ascii else "…") if width > 0 else ""
    return kept + " " * (width - cell_len(kept))


def _carried(text: str) -> str:
    """A combining mark that opens a cell of a table gets a circle to stand on."""
    return f"◌{text}" if text and not cell_len(text[0]) else text
