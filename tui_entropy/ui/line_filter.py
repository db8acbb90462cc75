"""The last look at what Textual's own widgets draw, of text that was typed or pasted into them."""

from __future__ import annotations

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal would obey, and what turns the text around it. Textual counts no cells for any of them."""


class WithoutControls(LineFilter):
    """Leaves out of a line what a terminal must not be sent. Our own views have drawn glyphs in its place before."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(text.isprintable() for text, _, control in segments if not control):
            return segments
        return [
            segment if segment.control else Segment(OBEYED.sub("", segment.text), segment.style)
            for segment in segments
        ]
