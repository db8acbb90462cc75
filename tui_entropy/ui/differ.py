"""What a terminal shows, cell by cell, and the fewest bytes that make the next frame of it. Pure: text in, text out.

Textual sends every cell of a region that was touched, each part with its whole style. Here each cell's character and
style are remembered, and only cells that differ are sent, with only the parts of a style that change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len, get_character_cell_size

TOKEN = re.compile(
    r"\x1b\[(\d+);(\d+)H"  # move
    r"|\x1b\[([\d;:]*)m"  # style
    r"|(\x1b\]8;[^\x07\x1b]*(?:\x07|\x1b\\))"  # hyperlink
    r"|(\n)"
    r"|([^\x00-\x1f\x7f-\x9f]+)"  # text
)
HARMLESS = re.compile(
    r"(?:\x1b\[\?(?!1049|47[hl]|1047)[\d;]+(?:[hl]|\$p)"  # private modes but the alternate screen
    r"|\x1b\[[<=>?]?[\d;]*[un]"  # keyboard protocol, questions
    r"|\x1b\](?:0|1|2|22|52);[^\x07\x1b]*(?:\x07|\x1b\\)"  # title, pointer, clipboard
    r"|\x07)+"
)
"""What leaves the cells as they are."""
GAP = 4
"""So many cells that did not change are sent again where it costs no more than to move over them."""
JOINED = re.compile("[\u200d\ufe0e\ufe0f\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff]")
"""In text with one of these, terminals disagree about widths."""
SEEN_ON_BLANKS = {"4", "7", "9", "21", "51", "52", "53"}
"""Attributes that show where nothing is written: lines and reverse."""


class Pen(NamedTuple):
    """A style, taken apart."""

    attributes: tuple[str, ...] = ()
    foreground: str = ""
    background: str = ""
    link: str = ""
    """The whole sequence that opens it."""


PLAIN = Pen()
CLOSE_LINK = "\x1b]8;;\x1b\\"


class Differ:
    """Remembers one terminal screen. Cells of which nothing is known are sent in any case."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The terminal may show anything."""
        self._rows: dict[int, tuple[list[str | None], list[Pen]]] = {}
        """Row -> per column the character, '' for the right part of a wide one, None for unknown; and its style."""

    def frame(self, data: str) -> str:
        """What to send in place of `data`. Where that holds something unknown it is `data`, and all is forgotten."""
        if HARMLESS.fullmatch(data):
            return data
        self._out: list[str] = []
        self._pen, self._at = PLAIN, (-1, -1)
        y = x = pos = 0
        pen = PLAIN
        while pos < len(data):
            found = TOKEN.match(data, pos)
            if found is None:
                self.forget()
                return data
            pos = found.end()
            match found.lastindex:
                case 2:
                    y, x = int(found[1]) - 1, int(found[2]) - 1
                case 3:
                    pen = _styled(found[3])._replace(link=pen.link)
                case 4:
                    pen = pen._replace(link="" if found[4].split(";", 2)[2] in ("\x07", "\x1b\\") else found[4])
                case 5:
                    y += 1
                case _:
                    x = self._put(y, x, found[6], pen)
        if self._out:
            self._to(PLAIN)
        return "".join(self._out)

    # --- One stretch of text -------------------------------------------------------------------------------------

    def _put(self, y: int, x: int, text: str, pen: Pen) -> int:
        """Write text at a place. Returns the column after it."""
        cells, wanted = _cells(text, pen)
        end = x + len(cells)
        chars, pens = self._row(y, end)
        if chars[x:end] == cells and pens[x:end] == wanted:
            return end
        for first, last in _runs(cells, wanted, chars, pens, x):
            self._send(y, x + first, cells[first:last], wanted[first:last])
        self._break(chars, x, end)
        chars[x:end], pens[x:end] = cells, wanted
        return end

    def _row(self, y: int, width: int) -> tuple[list[str | None], list[Pen]]:
        row = self._rows.setdefault(y, ([], []))
        missing = width - len(row[0])
        if missing > 0:
            row[0].extend([None] * missing)
            row[1].extend([PLAIN] * missing)
        return row

    @staticmethod
    def _break(chars: list[str | None], x: int, end: int) -> None:
        """A wide character that is cut in half is gone from the terminal, both halves."""
        left = x
        while left > 0 and chars[left] == "":
            left -= 1
        for column in range(left, x):
            chars[column] = None
        while end < len(chars) and chars[end] == "":
            chars[end] = None
            end += 1

    def _send(self, y: int, x: int, cells: Sequence[str], pens: Sequence[Pen]) -> None:
        self._move(y, x)
        for cell, pen in zip(cells, pens, strict=True):
            if cell != " " or _blank(self._pen) != pen:
                self._to(pen)
            self._out.append(cell)
        sure = not any(JOINED.search(cell) for cell in cells)
        self._at = (y, x + len(cells)) if sure else (-1, -1)

    def _move(self, y: int, x: int) -> None:
        row, column = self._at
        if self._at == (y, x):
            return
        forward = x - column
        self._out.append(f"\x1b[{forward}C" if row == y and forward > 0 else f"\x1b[{y + 1};{x + 1}H")

    def _to(self, pen: Pen) -> None:
        if pen == self._pen:
            return
        self._out.append(_change(self._pen, pen))
        self._pen = pen


def _runs(
    cells: Sequence[str], wanted: Sequence[Pen], chars: Sequence[str | None], pens: Sequence[Pen], x: int
) -> Iterable[tuple[int, int]]:
    """(first, last) of each stretch of cells to send; a wide character is sent whole, and small gaps with it."""
    differ = [n for n, cell in enumerate(cells) if chars[x + n] != cell or pens[x + n] != wanted[n]]
    at = 0
    while at < len(differ):
        first = last = differ[at]
        while at < len(differ) and differ[at] - last <= GAP:
            last = differ[at]
            at += 1
        while cells[first] == "":
            first -= 1
        last += 1
        while last < len(cells) and cells[last] == "":
            last += 1
        while at < len(differ) and differ[at] < last:
            at += 1
        yield first, last


@lru_cache(1 << 14)
def _cells(text: str, pen: Pen) -> tuple[list[str], list[Pen]]:
    """Per column the character and its style. Neither list is to be changed."""
    cells = _columns(text)
    if " " not in cells:
        return cells, [pen] * len(cells)
    blank = _blank(pen)
    return cells, [blank if cell == " " else pen for cell in cells]


def _columns(text: str) -> list[str]:
    """Per column a character with what combines with it, and '' for the right part of a wide one."""
    if text.isascii():
        return list(text)
    if JOINED.search(text):
        return [text] + [""] * (cell_len(text) - 1)
    cells: list[str] = []
    for character in text:
        width = get_character_cell_size(character)
        if width:
            cells += [character] + [""] * (width - 1)
        elif cells:
            cells[max(n for n, cell in enumerate(cells) if cell)] += character
    return cells


@lru_cache(4096)
def _styled(codes: str) -> Pen:
    """Of the numbers of an SGR sequence, which begins anew: Textual resets after every part."""
    attributes, foreground, background = [], "", ""
    parts = codes.split(";")
    at = 0
    while at < len(parts):
        code, length = parts[at], 1
        if code in ("38", "48"):
            length = {"2": 5, "5": 3}.get(parts[at + 1] if at + 1 < len(parts) else "", len(parts))
        whole = ";".join(parts[at : at + length])
        number = int(code) if code.isdigit() else 0
        if code == "38" or 30 <= number <= 37 or 90 <= number <= 97:
            foreground = whole
        elif code == "48" or 40 <= number <= 47 or 100 <= number <= 107:
            background = whole
        elif number:
            attributes.append(whole)
        at += length
    return Pen(tuple(attributes), foreground, background)


@lru_cache(4096)
def _blank(pen: Pen) -> Pen:
    """What of a style shows on a space."""
    if pen.link or SEEN_ON_BLANKS.intersection(pen.attributes):
        return pen
    return Pen(background=pen.background)


@lru_cache(1 << 14)
def _change(old: Pen, new: Pen) -> str:
    """From one style to another: what changes, or all anew where an attribute ends or that is shorter."""
    link = "" if old.link == new.link else new.link or CLOSE_LINK
    if (old.attributes, old.foreground, old.background) == (new.attributes, new.foreground, new.background):
        return link
    anew = ";".join(part for part in ("0", *new.attributes, new.foreground, new.background) if part)
    if anew == "0":
        return f"\x1b[m{link}"
    if set(old.attributes) <= set(new.attributes):
        parts = [attribute for attribute in new.attributes if attribute not in old.attributes]
        parts += [new.foreground or "39"] if new.foreground != old.foreground else []
        parts += [new.background or "49"] if new.background != old.background else []
        anew = min(anew, ";".join(parts), key=len)
    return f"\x1b[{anew}m{link}"
