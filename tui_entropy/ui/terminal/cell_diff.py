"""The screen of a terminal, cell by cell, and the fewest bytes that make its next frame. Pure: text in, text out.

Textual sends every cell of a region that was touched, each part with its whole style. Here each cell's character and
style are remembered, and only cells that differ are sent, with only the parts of a style that change.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

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


@dataclass(frozen=True, slots=True, eq=False)
class Pen:
    """A style, taken apart. Made by `pen`, so that those that are alike are one object."""

    attributes: tuple[str, ...]
    foreground: str
    background: str
    link: str
    """The whole sequence that opens it."""


@lru_cache(1 << 14)
def pen(attributes: tuple[str, ...] = (), foreground: str = "", background: str = "", link: str = "") -> Pen:
    return Pen(attributes, foreground, background, link)


PLAIN = pen()
CLOSE_LINK = "\x1b]8;;\x1b\\"

Inked = tuple[str, Pen]
Line = tuple[int, int, Sequence[Inked]]
"""Row, column, and what stands from there on."""


class Differ:
    """Remembers one terminal screen. Cells of which nothing is known are sent in any case."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The terminal may show anything."""
        self._rows: dict[int, tuple[list[str | None], list[Pen]]] = {}
        """Row -> per column the character, '' for the right part of a wide one, None for unknown; and its style."""

    def frame(self, data: str) -> str:
        """The text to send for `data`. Where that holds something unknown it is `data`, and all is forgotten."""
        if HARMLESS.fullmatch(data):
            return data
        lines = _read(data)
        if lines is None:
            self.forget()
            return data
        return self.lines(lines)

    def lines(self, lines: Iterable[Line], most: float = math.inf) -> str:
        """The text to send so that these lines stand there. Takes no more of them once it is longer than `most`."""
        self._out: list[str] = []
        self._pen, self._at = PLAIN, (-1, -1)
        for y, x, parts in lines:
            cells: list[str] = []
            pens: list[Pen] = []
            for text, style in parts:
                more, styles, sure = _cells(text, style)
                if not sure:
                    x = self._put(y, x, cells, pens)
                    x = self._put(y, x, more, styles, sure)
                    cells, pens = [], []
                    continue
                cells += more
                pens += styles
            self._put(y, x, cells, pens)
            if most < math.inf and sum(map(len, self._out)) > most:
                break
        if self._out:
            self._to(PLAIN)
        return "".join(self._out)

    # --- One stretch of text -------------------------------------------------------------------------------------

    def _put(self, y: int, x: int, cells: list[str], wanted: list[Pen], sure: bool = True) -> int:
        """Write cells at a place. `sure`: of where the terminal's cursor is afterwards. Returns the column after."""
        end = x + len(cells)
        chars, pens = self._row(y, end)
        if chars[x:end] == cells and pens[x:end] == wanted:
            return end
        for first, last in _runs(cells, wanted, chars, pens, x):
            self._send(y, x + first, cells[first:last], wanted[first:last])
            if not sure:
                self._at = (-1, -1)
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
        for cell, wanted in zip(cells, pens, strict=True):
            if wanted is not self._pen:
                self._to(_for_blank(self._pen, wanted) if cell == " " else wanted)
            self._out.append(cell)
        self._at = (y, x + len(cells))

    def _move(self, y: int, x: int) -> None:
        row, column = self._at
        forward = x - column if row == y else -1
        if forward > 0:
            self._out.append(f"\x1b[{forward}C" if forward > 1 else "\x1b[C")
        elif forward:
            self._out.append(f"\x1b[{y + 1};{x + 1}H" if x else f"\x1b[{y + 1}H")

    def _to(self, wanted: Pen) -> None:
        if wanted is self._pen:
            return
        self._out.append(_change(self._pen, wanted))
        self._pen = wanted


def _runs(
    cells: Sequence[str], wanted: Sequence[Pen], chars: Sequence[str | None], pens: Sequence[Pen], x: int
) -> Iterable[tuple[int, int]]:
    """(first, last) of each stretch of cells to send; a wide character is sent whole, and small gaps with it."""
    differ = [n for n, cell in enumerate(cells) if pens[x + n] is not wanted[n] or chars[x + n] != cell]
    at = 0
    while at < len(differ):
        first = last = differ[at]
        while at < len(differ) and _goes_on(cells, wanted, last, differ[at]):
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


def _goes_on(cells: Sequence[str], wanted: Sequence[Pen], last: int, after: int) -> bool:
    """Whether the cells between two that differ cost no more to send again than to move over."""
    if after == last + 1:
        return True
    if after - last > GAP + 1:
        return False
    styles = {wanted[last], wanted[after]}
    return len("".join(cells[last + 1 : after]).encode()) <= GAP and all(
        style in styles for style in wanted[last + 1 : after]
    )


def _read(data: str) -> list[Line] | None:
    """The lines of text that Textual sends, with places and styles; None where it holds anything else."""
    lines: list[Line] = []
    parts: list[Inked] = []
    y = x = pos = 0
    style = PLAIN
    while pos < len(data):
        match = TOKEN.match(data, pos)
        if match is None:
            return None
        pos = match.end()
        match match.lastindex:
            case 2:
                y, x, parts = int(match[1]) - 1, int(match[2]) - 1, []
                lines.append((y, x, parts))
            case 3:
                style = _linked(styled(match[3]), style.link)
            case 4:
                style = _linked(style, "" if match[4].split(";", 2)[2] in ("\x07", "\x1b\\") else match[4])
            case 5:
                y += 1
                x, parts = x + sum(len(_cells(*part)[0]) for part in parts), []
                lines.append((y, x, parts))
            case _:
                if not lines:
                    lines.append((0, 0, parts))
                parts.append((match[6], style))
    return lines


def _linked(style: Pen, link: str) -> Pen:
    return style if style.link == link else pen(style.attributes, style.foreground, style.background, link)


@lru_cache(1 << 14)
def _cells(text: str, style: Pen) -> tuple[list[str], list[Pen], bool]:
    """Per column the character and its style, neither list to be changed; and whether terminals agree about that."""
    cells = _columns(text)
    blank = _blank(style)
    return cells, [blank if cell == " " else style for cell in cells], not JOINED.search(text)


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


CUBE = (0, 95, 135, 175, 215, 255)
SHARED: dict[tuple[int, ...], int] = {rgb: n for n, rgb in enumerate(product(CUBE, repeat=3), 16) if n > 21}
SHARED |= {(8 + 10 * n,) * 3: 232 + n for n in range(24)}
"""Colours that have a number in every terminal of 256. Palettes for sixteen colours take the first six."""


def _short(colour: str) -> str:
    """A colour of 24 bits by its number, where it has one: half the bytes."""
    kind, _, rgb = colour.partition(";2;")
    number = SHARED.get(tuple(map(int, rgb.split(";")))) if rgb else None
    return colour if number is None else f"{kind};5;{number}"


@lru_cache(4096)
def styled(codes: str) -> Pen:
    """The style of an SGR sequence's numbers, which begins anew: Textual resets after every part."""
    attributes, foreground, background = [], "", ""
    parts = codes.split(";")
    at = 0
    while at < len(parts):
        code, length = parts[at], 1
        if code in ("38", "48"):
            length = {"2": 5, "5": 3}.get(parts[at + 1] if at + 1 < len(parts) else "", len(parts))
        whole = _short(";".join(parts[at : at + length]))
        number = int(code) if code.isdigit() else 0
        if code == "38" or 30 <= number <= 37 or 90 <= number <= 97:
            foreground = whole
        elif code == "48" or 40 <= number <= 47 or 100 <= number <= 107:
            background = whole
        elif number:
            attributes.append(whole)
        at += length
    return pen(tuple(attributes), foreground, background)


@lru_cache(4096)
def _blank(style: Pen) -> Pen:
    """The part of a style that shows on a space."""
    if style.link or SEEN_ON_BLANKS.intersection(style.attributes):
        return style
    return pen(background=style.background)


@lru_cache(1 << 14)
def _for_blank(old: Pen, wanted: Pen) -> Pen:
    """The style of a space that is to look like `wanted`: ink, unseen on it, stays for what follows."""
    if wanted is not pen(background=wanted.background) or _blank(old) is old:
        return wanted
    return pen(old.attributes, old.foreground, wanted.background)


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
