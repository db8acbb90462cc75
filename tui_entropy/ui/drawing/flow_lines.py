"""Flow lines: edges between two rows of places as lines of glyphs, each place's sources in a line of their own.

Lines that join have a corner there; one that stands in front of another is drawn whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

HEAVY = 0.25
"""The share from which on a line is a heavy one."""
LINES = {
    "vertical": "│", "heavy vertical": "┃", "horizontal": "─", "heavy horizontal": "━", "end": "╯", "side": "┤",
    "first": "╭", "more": "┬", "both": "┼",
}  # fmt: skip
LINES_ASCII = {
    "vertical": "|", "heavy vertical": "H", "horizontal": "-", "heavy horizontal": "=", "end": "'", "side": "+",
    "first": ".", "more": "+", "both": "+",
}  # fmt: skip


class Glyph(NamedTuple):
    text: str
    share: float
    """What flows through the line that it is part of."""


class Line(NamedTuple):
    above: int
    """Column of cells of the place above."""
    below: int
    """At most `above`: what was before it."""
    share: float


def lines_between(edges: Sequence[Line], ascii: bool = False) -> list[dict[int, Glyph]]:
    """The lines from a row to the next one below, the topmost first: column of cells -> glyph. At least one."""
    glyphs = LINES_ASCII if ascii else LINES
    upright = {edge.above: edge.share for edge in edges if edge.above == edge.below}
    joined: dict[int, list[Line]] = {}
    for edge in edges:
        if edge.above != edge.below:
            joined.setdefault(edge.above, []).append(edge)
    # The rightmost place first: then what goes down to its sources crosses the fewest lines.
    pending = {above: sum(edge.share for edge in each) for above, each in joined.items() if above not in upright}
    standing = {column: share for column, share in upright.items()} | pending
    lines = []
    for above in sorted(joined, reverse=True):
        each = sorted(joined[above], key=lambda edge: edge.below)
        lines.append(_line(above, each, standing, above in upright, glyphs))
        if above not in upright and above in pending and not any(edge.below == above for edge in edges):
            standing.pop(above, None)
        for edge in each:
            standing[edge.below] = standing.get(edge.below, 0.0) + edge.share
    return lines or [{column: _upright(share, glyphs) for column, share in standing.items()}]


def _line(
    above: int, edges: Sequence[Line], standing: Mapping[int, float], goes_on: bool, glyphs: Mapping[str, str]
) -> dict[int, Glyph]:
    """One place and what it came from, in front of what stands there."""
    line = {column: _upright(share, glyphs) for column, share in standing.items()}
    first, whole = edges[0].below, 0.0
    sources = {edge.below: edge.share for edge in edges}
    for column in range(first, above):
        whole += sources.get(column, 0.0)
        if column in sources:
            name = "both" if column in standing else "first" if column == first else "more"
            line[column] = Glyph(glyphs[name], whole)
        elif column not in standing:
            line[column] = Glyph(glyphs["heavy horizontal" if whole >= HEAVY else "horizontal"], whole)
    line[above] = Glyph(glyphs["side" if goes_on else "end"], max(whole, standing.get(above, 0.0)))
    return line


def _upright(share: float, glyphs: Mapping[str, str]) -> Glyph:
    return Glyph(glyphs["heavy vertical" if share >= HEAVY else "vertical"], share)
