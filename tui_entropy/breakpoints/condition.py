"""Condition: what a breakpoint asks of a step, parsed and checked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tui_entropy.breakpoints.terms import Moment, Term
from tui_entropy.core.errors import UserError
from tui_entropy.records.settings import Watch
from tui_entropy.records.step import Step


class ConditionError(UserError):
    """A mistake in an expression, in one sentence."""

    def __init__(self, sentence: str, text: str, at: int) -> None:
        super().__init__(sentence)
        self.text = text
        self.at = at
        """The character of the text where it goes wrong, from 0; its length for its end."""

    def shown(self) -> str:
        """The sentence, and the place under it."""
        return f"{self}\n{self.place()}"

    def place(self) -> str:
        """The expression, and a caret under the place."""
        first = max(self.at - 60, 0)
        line = "".join(letter if letter.isprintable() else "·" for letter in self.text[first : first + 100])
        before = sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in line[: self.at - first])
        return f"  {line}\n  {' ' * before}^"


ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[ntr\\\"'])")
LETTERS = {"n": "\n", "t": "\t", "r": "\r"}
PLAIN = {"\\": "\\", '"': '"'} | {meant: letter for letter, meant in LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression that can be asked of a step."""

    text: str
    """As it was typed."""
    root: Term
    on_text: bool
    """It reads the whole text, so that what made it true once may keep it true."""
    followed: tuple[str, ...]
    """Texts whose probability or rank it reads."""

    def canonical(self) -> str:
        """The same with all units and no needless parentheses. Parses to the same."""
        return self.root.spelled

    def holds(self, step: Step, text: str, watches: Sequence[Watch] = ()) -> bool:
        """Whether it is certainly true: a comparison with a number that is unknown is not, and one with a number of
        which only bounds are known is if it holds for all that lies between them. text: everything written, with what
        the step adds, or its newest TEXT_TAIL_CHARS characters.

        Raises TimeoutError where a pattern takes longer than SEARCH_TIMEOUT_S.
        """
        return self.verdict(step, text, watches) is True

    def verdict(self, step: Step, text: str, watches: Sequence[Watch] = ()) -> bool | None:
        """The same, with None where it hangs on a number that is unknown. Raises TimeoutError."""
        found = self.root.read(Moment(step, text, watches))
        return found if isinstance(found, bool) else None


def quoted(text: str) -> str:
    """As it would be typed. A backslash that begins no escape stands for itself."""
    spelled = '"'
    for one in reversed(text):
        if one == "\\" and not ESCAPE.match(one + spelled[:9]):
            spelled = one + spelled
        elif one in PLAIN:
            spelled = "\\" + PLAIN[one] + spelled
        else:
            spelled = (one if one.isprintable() else f"\\U{ord(one):08x}") + spelled
    return '"' + spelled


def nearest(word: str, known_words: Iterable[str]) -> str:
    import difflib

    matches = difflib.get_close_matches(word.lower(), {one.lower(): one for one in known_words}, 1)
    return f": did you mean {next(one for one in known_words if one.lower() == matches[0])}?" if matches else ""
