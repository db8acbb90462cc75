"""The settings beside the knobs: vectors, lanes, breakpoints, watched tokens."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from tui_entropy.records.bounds import Ids, Number, Position, Strength, Text, Words
from tui_entropy.records.sampling import Knobs

RECORDED_ROWS = ("off", "shown", "all")
"""Which attention rows each step has with it: none; of every block the mean of its heads, and beside them the head
that is looked at; of every block the mean and each head."""

Schedule = Annotated[tuple[tuple[Number, Strength], ...], Meta(max_length=1024)]


class Vector(Struct, frozen=True):
    """A control vector as it is set now. Its numbers stay in the engine, under the name."""

    name: Words
    source: Words
    """The file it was read from, or 'built in'."""
    blocks: Ids = ()
    """Blocks (1-based) that it has a direction for."""
    strength: Strength = 1.0
    on: bool = False
    first: Position | None = None
    """First block it acts on, None for the first it has."""
    last: Position | None = None
    """Last block it acts on, inclusive."""
    schedule: Schedule = ()
    """(step, factor of the strength), steps from 1 and rising; on a line between. Empty: 1 throughout."""
    condition: Words = ""
    """It acts on the step behind one that this expression (as of breakpoints) is true of. Empty: on every step."""
    part: Words = ""
    """In place of a vector that is added, the part of its one block that is scaled: 'attention', 'feed-forward', or a
    head by its number. `strength` is the factor then: 0 ablates it, and 1 leaves it as it is."""
    hash: Words = ""
    """Of its directions, by which a file that was changed is told; from the engine, empty where nobody said."""

    @property
    def neutral(self) -> float:
        """The strength at which it changes nothing."""
        return 1.0 if self.part else 0.0

    @property
    def amount(self) -> str:
        """Its strength as it is told, such as +1.5, or x0 for a factor."""
        return f"x{self.strength:g}" if self.part else f"{self.strength:+g}"

    def strength_at(self, step: int) -> float:
        """At a step, from 1 on: as strong as the line between the two points beside it says, and beyond the first and
        the last point as they say. With ((1, 0), (21, 1)): nothing at step 1, half at step 11, whole from 21 on."""
        return self.neutral + self._share_at(step) * (self.strength - self.neutral)

    def _share_at(self, step: int) -> float:
        if not self.schedule:
            return 1.0
        for (first, low), (last, high) in pairwise(self.schedule):
            if first <= step < last:
                return low + (high - low) * (step - first) / (last - first)
        return (self.schedule[0] if step < self.schedule[0][0] else self.schedule[-1])[1]


PART = re.compile(r"(\d{1,9})\.(attention|feed-forward|[1-9]\d{0,8})(?:=(.+))?")


def scaled_part(text: str) -> Vector:
    """BLOCK.HEAD, BLOCK.attention or BLOCK.feed-forward, perhaps =FACTOR, 0 without it: as what acts on a text, on.
    Raises ValueError with a sentence."""
    match = PART.fullmatch(text.strip())
    try:
        factor = float(match[3] or 0) if match else math.nan
    except ValueError:
        factor = math.nan
    if match is None or not abs(factor) <= MOST_FACTOR:
        raise ValueError(
            "wanted BLOCK.HEAD, BLOCK.attention or BLOCK.feed-forward, perhaps with =FACTOR, such as 12.3 or "
            "12.attention=0.5"
        )
    name = f"{int(match[1])}.{match[2]}"
    return Vector(name, name, (int(match[1]),), factor, True, part=match[2])


MOST_FACTOR = 1e6


class Breakpoint(Struct, frozen=True):
    id: Position
    expression: Words
    """As it was typed; breakpoints/parser.py has the language."""
    enabled: bool = True
    hits: Position = 0
    note: Words = ""
    """Why it was switched off by itself; empty otherwise."""


class Watch(Struct, frozen=True, array_like=True):
    text: str
    token_id: int
    """Its first token, which is the one that is followed."""
    token_bytes: bytes
    """Of that token."""
    n_tokens: int
    """Tokens that the text takes."""


class Lane(Struct, frozen=True):
    """Another mind for the same text. What is None is as in the lane that is watched."""

    name: Words
    """For titles: 'no vectors', 'temperature 1.5', 'other prompt'."""
    vectors: Vectors | None = None
    knobs: Knobs | None = None
    prompt: Text | None = None
    system: Text | None = None
    """Counts only with a prompt."""


# --- What is asked: commands ---------------------------------------------------------------------------------


ON_LEAVE = ("write", "pause", "stop")

Vectors = Annotated[tuple[Vector, ...], Meta(max_length=1024)]
Breakpoints = Annotated[tuple[Breakpoint, ...], Meta(max_length=1024)]
Texts = Annotated[tuple[Words, ...], Meta(max_length=1024)]


UNTIL = ("", "sentence", "line")
