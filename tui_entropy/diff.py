"""Placeholder until the real comparison is merged."""

from dataclasses import dataclass
from difflib import SequenceMatcher

from tui_entropy.log import RunLog


@dataclass(frozen=True)
class Span:
    kind: str
    one: tuple[int, int]
    other: tuple[int, int]


@dataclass(frozen=True)
class Compared:
    parted: int | None
    spans: tuple[Span, ...]


def compare(one: RunLog, other: RunLog) -> Compared:
    codes = SequenceMatcher(None, one.steps.ids, other.steps.ids, autojunk=False).get_opcodes()
    parted = next((a for kind, a, *_ in codes if kind != "equal"), None)
    return Compared(parted, tuple(Span(kind, (a, b), (c, d)) for kind, a, b, c, d in codes))
