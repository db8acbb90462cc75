"""Text that is typed or pasted into a box, made such as may stand in a text."""

from __future__ import annotations

from tui_entropy.ui.drawing.glyphs import INVISIBLE, visible

LINES = dict.fromkeys(map(ord, "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), "\n")
"""What an editor would take for the end of a line."""


def typed_as(text: str) -> str:
    """Model text for an editor, a letter for a letter: what it could not show or hold is a glyph, or a new line."""
    if text.isprintable() and not INVISIBLE.search(text):
        return text
    return "".join(
        char if char in "\n\t" or (char.isprintable() and not INVISIBLE.match(char)) else _one(char)
        for char in text.translate(LINES)
    )


def _one(char: str) -> str:
    glyph = visible(char)
    return glyph if len(glyph) == 1 else "\ufffd"
