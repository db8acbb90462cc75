"""What a terminal answers, and which of its modes are on, as xterm does; it knows synchronised output besides."""

from __future__ import annotations

import re

MODES = {
    9: "mouse",
    47: "alternate screen",
    1000: "mouse",
    1002: "mouse",
    1003: "mouse",
    1004: "focus reports",
    1006: "mouse",
    1015: "mouse",
    1016: "mouse",
    1047: "alternate screen",
    1049: "alternate screen",
    2004: "bracketed paste",
    2026: "synchronised output",
    2048: "resize reports",
}
"""Private modes that a program has to switch off again."""

SEQUENCE = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    rb"|\x1b[\]P].*?(?:\x07|\x1b\\)",  # OSC and DCS strings
    re.DOTALL,
)
UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]P](?:(?!\x07|\x1b\\).)*)?$", re.DOTALL)


class Whole:
    """Holds back an escape sequence until the rest of it has come."""

    def __init__(self) -> None:
        self._held = b""

    def __call__(self, data: bytes) -> bytes:
        data = self._held + data
        cut = UNFINISHED.search(data)
        end = cut.start() if cut else len(data)
        self._held = data[end:]
        return data[:end]


class Answers:
    """What a terminal says when it is asked, and which of its modes are on."""

    def __init__(self, width: int, height: int, resize_reports: bool = False) -> None:
        self.size = width, height
        self.resize_reports = resize_reports
        """Whether it knows mode 2048."""
        self.modes: dict[int, bool] = {}
        self.keyboard_depth = 0
        """Kitty keyboard modes pushed and not popped."""
        self._whole = Whole()

    def to(self, data: bytes) -> bytes:
        """The answer to everything that `data` asks. May be empty."""
        return b"".join(self._answer(sequence) for sequence in SEQUENCE.findall(self._whole(data)))

    def _answer(self, sequence: bytes) -> bytes:
        width, height = self.size
        match sequence:
            case b"\x1b[c" | b"\x1b[0c":
                return b"\x1b[?62;22c"
            case b"\x1b[>c" | b"\x1b[>0c":
                return b"\x1b[>41;377;0c"
            case b"\x1b[>q" | b"\x1b[>0q":
                return b"\x1bP>|XTerm(377)\x1b\\"
            case b"\x1b[5n":
                return b"\x1b[0n"
            case (
                b"\x1b[6n"
            ):  # the cursor's place would cost working out the screen; that an answer comes is what counts
                return b"\x1b[1;1R"
            case b"\x1b[14t":
                return b"\x1b[4;%d;%dt" % (height * 16, width * 8)
            case b"\x1b[16t":
                return b"\x1b[6;16;8t"
            case b"\x1b[18t":
                return b"\x1b[8;%d;%dt" % (height, width)
            case _:
                return self._look_up(sequence)

    def _look_up(self, sequence: bytes) -> bytes:
        if found := re.fullmatch(rb"\x1b\[\?(\d+)\$p", sequence):
            mode = int(found[1])
            known = (mode != 2048 or self.resize_reports) and (mode in MODES or mode in (7, 25))
            state = (1 if self.modes.get(mode, mode in (7, 25)) else 2) if known else 0
            return b"\x1b[?%d;%d$y" % (mode, state)
        if found := re.fullmatch(rb"\x1b\[\?([\d;]+)([hl])", sequence):
            self.modes |= {int(mode): found[2] == b"h" for mode in found[1].split(b";")}
            if sequence == b"\x1b[?2048h" and self.resize_reports:
                width, height = self.size
                return b"\x1b[48;%d;%d;%d;%dt" % (height, width, height * 16, width * 8)
        elif re.fullmatch(rb"\x1b\[>\d*u", sequence):
            self.keyboard_depth += 1
        elif re.fullmatch(rb"\x1b\[<\d*u", sequence):
            self.keyboard_depth -= 1
        elif found := re.match(rb"\x1b\](1[01]);\?", sequence):
            colour = b"ffff/ffff/ffff" if found[1] == b"10" else b"0000/0000/0000"
            return b"\x1b]%s;rgb:%s\x1b\\" % (found[1], colour)
        elif sequence.startswith(b"\x1bP+q"):
            return b"\x1bP0+r\x1b\\"
        return b""

    def left_on(self) -> set[str]:
        """What a program that ends now would leave changed."""
        left = {name for mode, name in MODES.items() if self.modes.get(mode)}
        left |= {"hidden cursor"} if not self.modes.get(25, True) else set()
        left |= {"no line wrap"} if not self.modes.get(7, True) else set()
        return left | ({"kitty keyboard"} if self.keyboard_depth > 0 else set())
