"""A strict reader of what a program sends to a terminal: anything that our driver has no reason to send is named.

Text of a model, a file or a paste can only get at what a terminal obeys through bytes below 0x20, 0x7f, the C1 range,
or a sequence that is none of ours; and bidi controls turn what stands around them.
"""

from __future__ import annotations

import codecs
import re

OURS = re.compile(
    r"\x1b\[\d*(?:;\d+)?H"  # move
    r"|\x1b\[\d*C"  # move on
    r"|\r?\n(?=\x1b\[\d+;\d+H)"  # as Textual ends a line of a whole screen
    r"|\x1b\[[\d;:]*m"  # style
    r"|\x1b\[[\d;]*[JK]"  # erase
    r"|\x1b\[\?(?:7|25|47|1000|1002|1003|1004|1006|1015|1016|1047|1049|2004|2026|2048)(?:[hl]|\$p)"
    r"|\x1b\[(?:>\d+|<|<\d+|\?|=\d+(?:;\d+)?)u"  # keyboard protocol
    r"|\x1b\[[56]n"  # questions
    r"|\x1b\[\?6n"
    r"|\x1b\]22;[a-z-]*(?:\x07|\x1b\\)"  # pointer
    r"|\x1b\]52;c;[A-Za-z0-9+/=]*(?:\x07|\x1b\\)"  # clipboard
    r"|\x1b\]8;[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\)"  # hyperlink
)
OBEYED = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Of text: what a terminal would obey, or what would turn the text around it. Newlines are counted apart."""
UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?)?$")


class Scanner:
    """Takes bytes as they come, cut anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._drawing = False
        """Whether the alternate screen is on, where nothing is ever written line by line."""

    def faults(self, data: bytes) -> list[str]:
        """What should not have been sent, each with what stands around it."""
        text = self._held + self._decoder.decode(data)
        cut = UNFINISHED.search(text)
        end = cut.start() if cut else len(text)
        self._held, text = text[end:], text[:end]
        found, at = [], 0
        for ours in [*OURS.finditer(text), None]:
            stop = ours.start() if ours else len(text)
            between = text[at:stop]
            wrong = OBEYED.search(between) or (self._drawing and re.search("[\r\n]", between))
            if wrong:
                here = at + wrong.start()
                found.append(ascii(text[max(here - 30, 0) : here + 30]))
            if ours is None:
                break
            if ours[0] in ("\x1b[?1049h", "\x1b[?1049l"):
                self._drawing = ours[0].endswith("h")
            at = ours.end()
        return found
