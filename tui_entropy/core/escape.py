"""Text from elsewhere, made safe to show: what a terminal would obey or hide becomes a glyph that can be seen.

From a model, a file, a server or a person: every text on its way to a terminal or into a sentence goes through
`visible`, and JSON on its way to a file that somebody may `cat` through `plain_json`.
"""

from __future__ import annotations

import re
from functools import lru_cache

INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that draw nothing, or that change the width of their neighbour in some terminals only."""
OBEYED = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xf3\xa0[\x80\x81]."
)
"""UTF-8 of what JSON may leave as it is and a terminal obeys or hides: DEL, C1, bidi and invisible format characters,
line separators, tags."""
MAX_CACHED_CHARS = 1000
"""Characters of a text that is worth remembering."""
MAX_CACHED_GLYPHS = 2**14
"""Code points whose glyphs are remembered."""

TABLE = {"\n": "⏎", "\t": "⇥"}
TABLE_ASCII = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def visible(text: str, ascii: bool = False, in_table: bool = False) -> str:
    """`text` with controls, escapes, bidi and format characters, line separators, surrogates, private and
    unassigned characters written out. Newlines survive in a stream, which breaks its lines there, and become a
    glyph `in_table`; tabs become ⇥."""
    if text.isprintable() and not INVISIBLE.search(text):
        return text
    return (
        _remembered(text, ascii, in_table)
        if len(text) < MAX_CACHED_CHARS
        else text.translate(GLYPHS[ascii, in_table])
    )


def plain_json(encoded: bytes) -> bytes:
    """JSON, in UTF-8 and with C0 escaped as JSON demands, with all else that a terminal would obey as \\u too: the
    same values, and safe to `cat`."""
    return OBEYED.sub(lambda match: json_escape(match[0].decode()).encode(), encoded)


def json_escape(text: str) -> str:
    r"""\uXXXX for each UTF-16 unit."""
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def bracketed(inside: str, ascii: bool = False) -> str:
    return f"<{inside}>" if ascii else f"‹{inside}›"


class Glyphs(dict[int, str]):
    """Code point -> what is shown for it, made when it is met first. As str.translate wants it."""

    def __init__(self, ascii: bool, in_table: bool) -> None:
        self.ascii, self.in_table = ascii, in_table

    def __missing__(self, code: int) -> str:
        glyph = self._glyph(chr(code), code)
        if len(self) < MAX_CACHED_GLYPHS:
            self[code] = glyph
        return glyph

    def _glyph(self, char: str, code: int) -> str:
        if char == "\n" and not self.in_table:
            return char
        table = TABLE_ASCII if self.ascii else TABLE
        if char in table:
            return table[char]
        if not self.ascii and (code < 0x20 or code == 0x7F):
            return chr(0x2400 + code) if code < 0x20 else "␡"
        if char.isprintable() and not INVISIBLE.match(char):
            return char
        return bracketed(f"{code:04X}", self.ascii)


GLYPHS = {(ascii, in_table): Glyphs(ascii, in_table) for ascii in (False, True) for in_table in (False, True)}


@lru_cache(4096)
def _remembered(text: str, ascii: bool, in_table: bool) -> str:
    return text.translate(GLYPHS[ascii, in_table])


RISKY_CELL = re.compile(r"[^\S ]|'|\s*[=+\-@＝＋－＠]")


def text_cell(text: str) -> str:
    """A text as a cell of a table that a spreadsheet opens as what it is.

    A spreadsheet runs a cell as a formula if it begins with = + - or @, also behind white space. So a text that does,
    or that begins with white space other than a space or with an apostrophe, gets an apostrophe in front: whoever
    reads the file with a program takes one leading apostrophe off again and has the text.
    """
    return f"'{text}" if RISKY_CELL.match(text) else text


def plain_cell(cell: str) -> str:
    """The text that `text_cell` made a cell of."""
    return cell.removeprefix("'")
