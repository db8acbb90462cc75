"""A panel of each kind, plain and hostile, and answers that are made of them."""

from __future__ import annotations

import math

from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import (
    Axis,
    Bars,
    Column,
    Edge,
    Flow,
    FlowEdge,
    FlowNode,
    FlowRow,
    Graph,
    Heatmap,
    Node,
    Note,
    Panel,
    Table,
    TintedText,
    Tokens,
)

HOSTILE = "\x1b]0;owned\x07\u202e<img src=x onerror=alert(1)></script>\n\r\x9b31m"


def panels(word: str = "word") -> tuple[Panel, ...]:
    """One of each kind but a step, in which everything that can be text holds this word."""
    grid = Grid.of([[0.0, 0.5], [1.0, math.nan]])
    return (
        Heatmap(word, grid, Axis(word, (f"{word} a", "b")), Axis(word, (word, "d")), "share"),
        Bars(word, (math.log(2), None, -1.0), Axis(word, (word, "y", "z")), "nats", 2.0),
        Table(
            word,
            (Column(word), Column("in nats", "nats"), Column("share", "share"), Column("whole"), Column("any")),
            ((word, math.log(2), 0.25, 7, True), (Tokens((3, 4), word.encode()), math.nan, 1.0, -1, None)),
        ),
        Graph(word, (Node(word), Node("end", 1)), (Edge(0, 1, 0.25), Edge(0, 0, -0.5)), "share"),
        Note(word, f"{word} and more of it"),
        TintedText(word, (0.5, -1.0, None), (0, 1, 2), "nats", 1.0),
    )  # fmt: skip


def token_map(word: str = "word") -> Heatmap:
    """A heat map with tokens in its cells."""
    tokens = tuple(Tokens((n,), text.encode()) for n, text in enumerate((word, " a", "b\n", "c")))
    grid = Grid.of([[0.0, 0.5], [1.0, math.nan]])
    return Heatmap(word, grid, Axis("layer", ("2", "1")), Axis(word, positions=(3, 4)), "share", tokens=tokens)


def diagram(word: str = "word") -> Flow:
    """A flow over three rows, in which a token comes from itself and from two before it."""
    places = [(0, 3, 1.0), (1, 0, 0.3), (1, 3, 0.6), (2, 0, 0.3), (2, 1, 0.1), (2, 2, 0.2), (2, 3, 0.3)]
    tokens = [Tokens((n,), text.encode()) for n, text in enumerate((word, " a", "b\n", "c", "d", "e", "f"))]
    nodes = tuple(FlowNode(*place, place[2], token) for place, token in zip(places, tokens, strict=True))
    edges = [(0, 2, 0.6), (0, 1, 0.3), (1, 3, 0.3), (2, 6, 0.3), (2, 4, 0.1), (2, 5, 0.2)]
    rows = (
        FlowRow(residual=0.5, attention=0.2, feed_forward=0.3),
        FlowRow(0.04, 0.06, 0.0, 0.8, None, 0.1),
        FlowRow(0.04, 0.06),
    )
    columns = Axis(word, positions=(1, 2, 3, 4))
    return Flow(word, Axis("layer", ("2", "1", word)), columns, nodes, tuple(FlowEdge(*edge) for edge in edges), rows)


def answer(word: str = "word", position: int = 4, run: int = 1) -> ProbeAnswer:
    shown = (*panels(word), token_map(word), diagram(word))
    return ProbeAnswer(f"probe {word}", run, position, {"k": 3}, shown, seconds=0.5)
