"""Panels: what a probe answers, in a few kinds that every screen, page and file can show without knowing the probe.

A panel whose parts do not fit each other cannot be made, so neither a message nor a file can hold one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from tui_entropy.records.arrays import Grid
from tui_entropy.records.step import Step


class Tokens(Struct, frozen=True):
    """A stretch of text as its tokens."""

    ids: tuple[int, ...]
    token_bytes: bytes
    """What they spell together."""


class Axis(Struct, frozen=True):
    """What stands along one side of a panel: words, or tokens of the text by their positions in the context."""

    name: str
    labels: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.labels and self.positions:
            raise ValueError("an axis has labels or positions, not both")

    @property
    def n(self) -> int:
        return len(self.labels or self.positions)

    @classmethod
    def numbered(cls, name: str, first: int, n: int) -> Axis:
        """first, first + 1, ... as words."""
        return cls(name, tuple(str(first + at) for at in range(n)))


def _check_top(top: float) -> None:
    if not 0 < top < math.inf:
        raise ValueError(f"the colour of a panel cannot be full at {top}")


class Heatmap(Struct, frozen=True, tag="heatmap"):
    """A grid of numbers that are coloured."""

    title: str
    values: Grid
    """(rows.n, columns.n); NaN is unknown."""
    rows: Axis
    columns: Axis
    unit: str = ""
    """As in `Column`."""
    top: float = 1.0
    """The value at which the colour is full."""
    tokens: tuple[Tokens, ...] = ()
    """What stands in the cells, row by row; empty where colours say all."""

    def __post_init__(self) -> None:
        _check_top(self.top)
        if self.values.shape != (self.rows.n, self.columns.n):
            raise ValueError(f"a heat map of {self.values.shape} has axes of {self.rows.n} and {self.columns.n}")
        if len(self.tokens) not in (0, self.rows.n * self.columns.n):
            raise ValueError(f"a heat map of {self.values.shape} has tokens for {len(self.tokens)} cells")

    def is_read(self, row: int, column: int) -> bool:
        """False for a token that comes after that of its row: there is nothing to be known of it."""
        queries, keys = self.rows.positions, self.columns.positions
        return not queries or not keys or keys[column] <= queries[row]


class Bars(Struct, frozen=True, tag="bars"):
    """One number for each place of an axis."""

    title: str
    values: tuple[float | None, ...]
    """None is unknown."""
    axis: Axis
    unit: str = ""
    top: float = 1.0

    def __post_init__(self) -> None:
        _check_top(self.top)
        if len(self.values) != self.axis.n:
            raise ValueError(f"{len(self.values)} bars have an axis of {self.axis.n}")


class TintedText(Struct, frozen=True, tag="text"):
    """A stretch of the text, each of its tokens with a number that it is coloured by; what is below 0 is marked."""

    title: str
    values: tuple[float | None, ...]
    """None is unknown."""
    positions: tuple[int, ...]
    """Of the tokens in the context."""
    unit: str = ""
    top: float = 1.0
    """The size, above 0 or below, at which the colour is full."""

    def __post_init__(self) -> None:
        _check_top(self.top)
        if len(self.values) != len(self.positions):
            raise ValueError(f"{len(self.values)} values colour {len(self.positions)} tokens")

    @classmethod
    def of(cls, title: str, values: Iterable[float], first: int, unit: str = "") -> TintedText:
        """Coloured by the largest of them. first: the position of the first."""
        known = tuple(map(float, values))
        top = max(map(abs, known), default=0.0) or 1.0
        return cls(title, known, tuple(range(first, first + len(known))), unit, top)


UNIT, OF_ROW = "unit", "of row"


class Column(Struct, frozen=True):
    name: str
    unit: str = ""
    """'nats' and 'nats²' are shown in the unit that a person chose, 'share' in percent; empty for all else. UNIT: the
    cells of the column are units. OF_ROW: each of its numbers has the unit that its row has there."""


Cell = bool | int | float | str | Tokens | None
"""None is unknown."""


class Table(Struct, frozen=True, tag="table"):
    """Rows of numbers, words and tokens."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of a table has not the {len(self.columns)} cells of its columns")


class Edge(Struct, frozen=True, array_like=True):
    source: int
    """Place of a node in `Graph.nodes`."""
    target: int
    weight: float


class Node(Struct, frozen=True, array_like=True):
    label: str
    stage: int = 0
    """Nodes of one stage stand together; edges lead from lower stages to higher ones."""


class Graph(Struct, frozen=True, tag="graph"):
    """Weights that flow from node to node."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    unit: str = ""
    top: float = 1.0

    def __post_init__(self) -> None:
        _check_top(self.top)
        n = len(self.nodes)
        if not all(0 <= edge.source < n and 0 <= edge.target < n for edge in self.edges):
            raise ValueError(f"an edge leads to none of the {n} nodes of its graph")


class FlowNode(Struct, frozen=True, array_like=True):
    row: int
    column: int
    share: float
    """Of all that flows through its row."""
    level: float | None = None
    """What shades it, 0 ... 1; None is unknown."""
    token: Tokens | None = None
    """What stands there."""


class FlowEdge(Struct, frozen=True, array_like=True):
    above: int
    """Place of a node in `Flow.nodes`."""
    below: int
    """That of one in the next row."""
    share: float
    """Of all that flows: how much of it flows here."""


class FlowRow(Struct, frozen=True, array_like=True):
    """What is to be said of a row beside its nodes. Shares of its nodes with these three sum to 1."""

    hidden: float = 0.0
    """What flows through nodes that are too small to be shown."""
    earlier: float = 0.0
    """What came of text before the first column."""
    ended: float = 0.0
    """What has ended above, in a feed-forward network."""
    residual: float | None = None
    attention: float | None = None
    feed_forward: float | None = None
    """Of what leads from this row to the next one: by what it came. None for the last row."""


class Flow(Struct, frozen=True, tag="flow"):
    """A Sankey diagram over layers and tokens: from where something came, row by row down to the text."""

    title: str
    rows: Axis
    """The topmost first."""
    columns: Axis
    nodes: tuple[FlowNode, ...]
    edges: tuple[FlowEdge, ...]
    parts: tuple[FlowRow, ...]
    shade: str = ""
    """What shades nodes; empty for their shares."""

    def __post_init__(self) -> None:
        n = len(self.nodes)
        if len(self.parts) != self.rows.n:
            raise ValueError(f"a flow of {self.rows.n} rows tells of {len(self.parts)}")
        if not all(0 <= node.row < self.rows.n and 0 <= node.column < self.columns.n for node in self.nodes):
            raise ValueError("a node of a flow stands in none of its rows and columns")
        if not all(0 <= edge.above < n and 0 <= edge.below < n for edge in self.edges):
            raise ValueError(f"an edge leads to none of the {n} nodes of its flow")
        if not all(self.nodes[edge.above].row + 1 == self.nodes[edge.below].row for edge in self.edges):
            raise ValueError("an edge of a flow leads past a row")


class Note(Struct, frozen=True, tag="note"):
    """A few sentences."""

    title: str
    text: str


Panel = Heatmap | Bars | TintedText | Table | Graph | Flow | Note | Step
"""A step is a panel too: what would have been written, with all that is known of it."""


def steps_of(panels: Sequence[Panel]) -> list[Step]:
    return [panel for panel in panels if isinstance(panel, Step)]
