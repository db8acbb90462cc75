"""Attention rows: the probe that the attention view asks, as both ends know it."""

from __future__ import annotations

import math
from typing import Annotated, Self

from msgspec import Meta, Struct

from tui_entropy.records.arrays import Grid
from tui_entropy.records.bounds import MOST_KEYS, MOST_QUERIES, Number, Position
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Axis, Bars, Heatmap, Panel

ATTENTION_ROWS = "attention"
"""The name of the probe."""


class RowOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Which rows: those of the token that chose the one asked about, and of some before it."""

    layer: Annotated[Number, Meta(description="The block, from 1 on.")] = 1
    head: Annotated[Number, Meta(description="The head, from 1 on; none for the mean of heads.")] | None = None
    n_queries: Annotated[int, Meta(ge=1, le=MOST_QUERIES, description="How many tokens back from it.")] = 16
    first_key: Annotated[Position, Meta(description="Position of the first key.")] = 0
    n_keys: Annotated[int, Meta(ge=1, le=MOST_KEYS, description="How many keys from there on.")] = 64


class RowWindow(Struct, frozen=True):
    """A stretch of the attention matrix of a block."""

    layer: int
    """1-based block."""
    head: int | None
    """1-based; None for the mean of heads."""
    last: int
    """Position of the newest query wanted."""
    n_queries: int
    """How many positions back from it, the newest included."""
    first_key: int
    n_keys: int


class AttentionRows(Struct, frozen=True):
    """Rows of softmax(qK) over the visible keys."""

    layer: int
    head: int | None
    queries: tuple[int, ...]
    """Context positions of the rows, oldest first."""
    first_key: int
    weights: Grid
    """(n_queries, n_keys) for keys first_key, first_key + 1, ...; NaN where a key is not visible."""
    elsewhere: tuple[float, ...]
    """(n_queries,) weight on visible keys outside that window. With a sink the whole row sums to less than 1."""
    unavailable: str | None = None
    """Why there are no rows."""

    @property
    def panels(self) -> tuple[Panel, ...]:
        n_keys = self.weights.shape[1]
        head = "mean of heads" if self.head is None else f"head {self.head}"
        queries = Axis("query", positions=self.queries)
        keys = Axis("key", positions=tuple(range(self.first_key, self.first_key + n_keys)))
        elsewhere = tuple(None if math.isnan(weight) else weight for weight in self.elsewhere)
        return (
            Heatmap(f"block {self.layer}, {head}", self.weights, queries, keys, "share"),
            Bars("on keys that are not shown", elsewhere, queries, "share"),
        )

    @classmethod
    def of(cls, answer: ProbeAnswer) -> Self:
        """Read off an answer. Raises ValueError for one that is none of this probe's."""
        layer, head = answer.options.get("layer"), answer.options.get("head")
        match answer.panels:
            case (Heatmap() as weights, Bars() as elsewhere, *_) if isinstance(layer, int) and not isinstance(
                head, str
            ):
                queries, keys = weights.rows.positions, weights.columns.positions
                if len(queries) == elsewhere.axis.n and len(keys) == weights.columns.n:
                    others = tuple(math.nan if weight is None else weight for weight in elsewhere.values)
                    return cls(layer, head, queries, keys[0] if keys else 0, weights.values, others)  # type: ignore[arg-type]
        if answer.unavailable is None:
            raise ValueError("no attention rows")
        return cls(layer if isinstance(layer, int) else 0, None, (), 0, Grid((0, 0), b""), (), answer.unavailable)
