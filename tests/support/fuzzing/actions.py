"""What a person, or a cat, may do at any moment: made from a seed, spelled on a command line."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from terminal import KEYS as CODES
from textual.keys import _character_to_key

from tui_entropy.ui.keys.keymap import KEYS

SIZES = (20, 5), (250, 80)
"""The smallest and the largest terminal, columns and rows."""
USUAL = ((80, 24), (120, 36), (160, 50), (60, 20))
LEAVING = ("quit", "detach")
"""Keys after which a session may be over."""
NOT_PRESSED = ("ctrl+z", "ctrl+backslash")
"""They stop the program itself, and are tried where a shell is there to go on with it."""
SEQUENCES = {
    "shift+left": "\x1b[1;2D", "ctrl+left": "\x1b[1;5D", "shift+right": "\x1b[1;2C", "ctrl+right": "\x1b[1;5C",
    "shift+up": "\x1b[1;2A", "shift+down": "\x1b[1;2B", "alt+enter": "\x1b\r", "shift+enter": "\x1b[13;2u",
    "ctrl+up": "\x1b[1;5A", "ctrl+down": "\x1b[1;5B", "ctrl+shift+left": "\x1b[1;6D",
    "ctrl+shift+right": "\x1b[1;6C", "f5": "\x1b[15~", "insert": "\x1b[2~",
}  # fmt: skip
NAMED = {_character_to_key(character): character for character in map(chr, range(0x20, 0x7F))}
PRINTABLE = [*map(chr, range(0x20, 0x7F)), *"éß日本ä🙂̈", "\U0001f468\u200d\U0001f469"]
PASTES = (
    "a word", "two\nlines", "a\r\nb\r\n", "tab\there", "\x01\x02\x07", "\x1b[2J\x1b]0;title\x07", "\u202eback\u2066",
    "\x9b31m red", "x" * 3000, "日本語🙂" * 40, "q", "\n" * 50, "0.5", "-1", "999999999999999999999",
    "rank > 3 and [/b]", "\ud7ff\ufffe\u0300\u0300", "", "  ", "'\"\\n\\t\\\\", "{}[]()%s{0}",
)  # fmt: skip
SIGNALS = ("TERM", "KILL", "SEGV", "HUP")

WEIGHTS: Mapping[str, float] = {
    "key": 40, "letter": 8, "burst": 18, "twice": 4, "paste": 4, "mouse": 12, "size": 4, "wait": 6, "leave": 0.6,
    "kill": 0.5,
}  # fmt: skip
"""Kind of action -> how often, of all together."""


@dataclass(frozen=True)
class Action:
    """One of them: `kind:argument` on a command line."""

    kind: str
    """keys (names, in one write), paste, click, drag, wheel, move, size, wait (seconds), kill (a signal for the
    engine)."""
    argument: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}"

    @classmethod
    def parsed(cls, text: str) -> Action:
        kind, _, argument = text.partition(":")
        return cls(kind, argument)

    @property
    def data(self) -> bytes:
        """What is written to the terminal. Empty for what is no input."""
        numbers = [int(number) for number in self.argument.split(",")] if self.kind in MOUSE else []
        match self.kind:
            case "keys":
                return b"".join(code(unquote(key)) for key in self.argument.split(","))
            case "paste":
                return b"\x1b[200~%s\x1b[201~" % unquote(self.argument).encode("utf-8", "surrogatepass")
            case "click":
                return _mouse(0, *numbers) + _mouse(0, *numbers, up=True)
            case "drag":
                x, y, to_x, to_y = numbers
                return _mouse(0, x, y) + _mouse(32, to_x, to_y) + _mouse(0, to_x, to_y, up=True)
            case "wheel":
                return _mouse(64 + numbers[0], *numbers[1:])
            case "move":
                return _mouse(35, *numbers)
        return b""


MOUSE = ("click", "drag", "wheel", "move")


def code(key: str) -> bytes:
    """What a terminal sends for a key that Textual calls so."""
    if key in CODES or key in SEQUENCES:
        return (CODES.get(key) or SEQUENCES[key]).encode()
    if key.startswith("ctrl+") and len(key) == 6:
        return bytes([ord(key[-1]) & 0x1F])
    return NAMED.get(key, key).encode("utf-8", "surrogatepass")


def keys(*names: str) -> Action:
    """All of them in one write."""
    return Action("keys", ",".join(quote(name, safe="+") for name in names))


def table(actions: tuple[str, ...] | None = None) -> list[str]:
    """Every key that the program has; only those of some actions where these are given. Leaving has its own."""
    return [
        name
        for key in KEYS
        if (key.action in actions if actions else key.action not in LEAVING)
        for name in key.keys.split(",")
    ]


def made(seed: str, n: int, size: tuple[int, int], weights: Mapping[str, float] = WEIGHTS) -> list[Action]:
    """n actions, the same for the same arguments. Some of them are two that belong together."""
    luck = random.Random(seed)
    found: list[Action] = []
    kinds, shares = list(weights), list(weights.values())
    while len(found) < n:
        for action in _of(luck.choices(kinds, shares)[0], luck, size):
            if action.kind == "size":
                width, height = action.argument.split("x")
                size = int(width), int(height)
            found.append(action)
    return found[:n]


ALL = [key for key in table() if key not in NOT_PRESSED]
OPENING = [name for key in KEYS if key.action.startswith(("open(", "prompt", "edit", "help", "command", "force"))
           for name in key.keys.split(",")]  # fmt: skip


def _of(kind: str, luck: random.Random, size: tuple[int, int]) -> list[Action]:
    match kind:
        case "key":
            return [keys(luck.choice(ALL))]
        case "letter":
            return [keys(luck.choice(PRINTABLE))]
        case "burst":
            first = luck.choice(OPENING if luck.random() < 0.4 else ALL)
            return [keys(first, *(luck.choice(ALL) for _ in range(luck.randint(1, 6))))]
        case "twice":
            return [keys(*[luck.choice(ALL)] * luck.randint(2, 5))]
        case "paste":
            return [Action("paste", quote(luck.choice(PASTES).encode("utf-8", "surrogatepass")))]
        case "mouse":
            return [_by_mouse(luck, size)]
        case "size":
            (least, lowest), (most, highest) = SIZES
            size = luck.choice(USUAL)
            if luck.random() < 0.5:
                size = luck.randint(least, most), luck.randint(lowest, highest)
            return [Action("size", f"{size[0]}x{size[1]}")]
        case "wait":
            return [Action("wait", f"{luck.choice((0.02, 0.1, 0.3, 0.6))}")]
        case "leave":
            after = [luck.choice(ALL) for _ in range(luck.randint(0, 2))]
            return [keys(*luck.choices(OPENING, k=luck.randint(0, 1)), luck.choice(table(LEAVING)), *after)]
        case "kill":
            return [Action("kill", luck.choice(SIGNALS)), Action("wait", "0.6"), keys("ctrl+r")]
    raise AssertionError(f"{kind} is no kind of action")


def _by_mouse(luck: random.Random, size: tuple[int, int]) -> Action:
    def place() -> str:
        return f"{luck.randrange(size[0])},{luck.randrange(size[1])}"

    kind = luck.choice((*MOUSE, "click", "click"))
    more = {"wheel": f"{luck.randint(0, 1)},{place()}", "drag": f"{place()},{place()}"}
    return Action(kind, more.get(kind, "") or place())


def _mouse(button: int, x: int, y: int, up: bool = False) -> bytes:
    return b"\x1b[<%d;%d;%d%s" % (button, x + 1, y + 1, b"m" if up else b"M")
