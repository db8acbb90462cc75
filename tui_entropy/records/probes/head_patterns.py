"""Head patterns: the places that each head looks at wherever it is, and the kind of head that it is by that."""

from __future__ import annotations

from typing import Annotated, NamedTuple, Self

from msgspec import Meta, Struct

from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Axis, Heatmap, Panel

HEAD_PATTERNS = "head-patterns"
"""The name of the probe."""
MAX_QUERIES = 64
"""Newest rows that a pattern is measured over."""


class Pattern(NamedTuple):
    name: str
    mark: str
    """One cell for it in a grid of heads."""
    least: float
    """The mean share of a head's weight from which on the head is of this kind."""
    about: str


PATTERNS = (
    Pattern("sink", "·", 0.5, "the first token of the text, or a sink that the model has learnt"),
    Pattern("previous token", "p", 0.3, "the token just before"),
    Pattern("same token", "s", 0.3, "the token itself"),
    Pattern("duplicate token", "d", 0.3, "earlier occurrences of this token, where there are any"),
    Pattern("induction", "i", 0.2, "tokens that came after earlier occurrences of this token, where there are any"),
)
"""Less is asked of induction, which few texts give much to do. The names are those of Elhage et al. 2021,
Olsson et al. 2022 and Wang et al. 2023; sinks are of Xiao et al. 2024."""
QUIET = "sink"
"""The kind that many heads are of, and that shows nothing of the text."""


class PatternOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Over which rows: those of the token that chose the one asked about, and of some before it."""

    n_queries: Annotated[int, Meta(ge=1, le=512, description="How many tokens back from it.")] = MAX_QUERIES


class HeadPatterns(Struct, frozen=True):
    """Mean shares of each head's weight, over the newest tokens."""

    shares: tuple[Grid, ...]
    """(n_layers, n_heads) for each of PATTERNS; NaN for no attention, and where too few tokens say anything."""

    def kind(self, layer: int, head: int) -> tuple[Pattern, float] | None:
        """The pattern that a head (both 1-based) follows most above what is asked, and its share; None for none."""
        return self.kinds().get((layer, head))

    def kinds(self) -> dict[tuple[int, int], tuple[Pattern, float]]:
        """The same of all heads that have one."""
        found: dict[tuple[int, int], tuple[Pattern, float]] = {}
        for pattern, grid in zip(PATTERNS, self.shares, strict=True):
            for layer, row in enumerate(grid.rows(), 1):
                for head, share in enumerate(row, 1):
                    before = found.get((layer, head))
                    if share >= pattern.least * (before[1] / before[0].least if before else 1):
                        found[layer, head] = pattern, share
        return found

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(
            Heatmap(
                f"{pattern.name}: mean weight on {pattern.about}",
                grid,
                Axis.numbered("block", 1, grid.shape[0]),
                Axis.numbered("head", 1, grid.shape[1]),
                "share",
            )
            for pattern, grid in zip(PATTERNS, self.shares, strict=True)
        )

    @classmethod
    def of(cls, answer: ProbeAnswer) -> Self:
        """Read off an answer. Raises ValueError for one that is none of this probe's."""
        grids = tuple(panel.values for panel in answer.panels if isinstance(panel, Heatmap))
        if len(grids) != len(PATTERNS):
            raise ValueError("no head patterns")
        return cls(grids)
