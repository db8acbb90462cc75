"""The last look at what Textual's own widgets draw, of text that was typed or pasted into them."""

from __future__ import annotations

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal would obey, and what turns the text around it. Textual counts no cells for any of them."""


def _ascii(point: int) -> str:
    """For a sign of lines and blocks one of the same width."""
    if point < 0x2580:  # lines: a corner or a crossing, unless it runs one way
        return "-" if chr(point) in "─━┄┅┈┉╌╍═╴╶╸╺╼╾" else "|" if chr(point) in "│┃┆┇┊┋╎╏║╵╷╹╻╽╿" else "+"
    return "-" if chr(point) in "▁▂▔" else "#"


SIGNS = {point: _ascii(point) for point in range(0x2500, 0x25A0)}
SIGNS |= str.maketrans({"·": "|", "…": "~", "•": "*", "🔎": "> ", "←": "<", "→": ">", "↑": "^", "↓": "v", "▶": ">"})
"""What Textual's own widgets draw -> ASCII of the same width."""


class InAscii(LineFilter):
    """Signs of Textual's own widgets for a terminal that has ASCII only. Letters that were typed stay."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or segment.text.isascii()
            else Segment(segment.text.translate(SIGNS), segment.style)
            for segment in segments
        ]


class WithoutControls(LineFilter):
    """Leaves out of a line what a terminal must not be sent. Our own views have drawn glyphs in its place before."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(text.isprintable() for text, _, control in segments if not control):
            return segments
        return [
            segment if segment.control else Segment(OBEYED.sub("", segment.text), segment.style)
            for segment in segments
        ]
