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


def answer(word: str = "word", position: int = 4, run: int = 1) -> ProbeAnswer:
    return ProbeAnswer(f"probe {word}", run, position, {"k": 3}, (*panels(word), token_map(word)), seconds=0.5)
