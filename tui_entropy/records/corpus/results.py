"""Results: what many texts came to, as curves, and as tables whose rows open into more and at last into a text.

Whoever shows them knows this file alone, so calibration, comparison and analysis have one screen.
"""

from __future__ import annotations

from msgspec import Struct

from tui_entropy.records.bounds import Ids, Text, Words
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.panels import Cell, Column
from tui_entropy.records.settings import Vector


class Curve(Struct, frozen=True):
    """Points that are joined, from left to right."""

    name: Words
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    """None is unknown, and parts the line."""
    emphasis: int = 1
    """0 for one of many, 1 for what it is about, 2 for their mean or what they are held against."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"a curve of {len(self.x)} places has {len(self.y)} values")


class CurveChart(Struct, frozen=True):
    """Curves over one axis."""

    title: Words
    x: Words
    """What stands along the axis."""
    y: Column
    """What the values are, and their unit."""
    curves: tuple[Curve, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    """A band over the places of the first curve."""

    def __post_init__(self) -> None:
        n = len(self.curves[0].x) if self.curves else 0
        if len(self.low) != len(self.high) or len(self.low) not in (0, n):
            raise ValueError(f"a band of {len(self.low)} and {len(self.high)} values lies over {n} places")


class TextResult(Struct, frozen=True):
    """A text that results are about."""

    name: Words
    token_ids: Ids
    """Empty where only the text is known: then it is opened from its first token on."""
    text: Text


class Opening(Struct, frozen=True):
    """A token of a text, to be opened in the inspector with everything that is known of it."""

    text: int
    """Place in `Results.texts`."""
    position: int
    """Of the token in the text, from 0 on."""
    model: int = 0
    """Place in `Results.models`."""


class Row(Struct, frozen=True):
    cells: tuple[Cell, ...]
    inside: Listing | None = None
    """What it opens into; None where it opens a text, or nothing."""
    opens: tuple[Opening, ...] = ()
    """A token, in each of the models that have read it."""
    chart: int | None = None
    """Place in `Results.charts` of what is shown beside it; None for whichever a person looks at."""


class Listing(Struct, frozen=True):
    """A table whose rows open."""

    title: Words
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: Words = ""
    """What is to be known of it, in a sentence."""

    def __post_init__(self) -> None:
        if any(len(row.cells) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row has not the {len(self.columns)} cells of its columns")


class SteeredModel(Struct, frozen=True):
    """A model, and what it was steered by."""

    spec: ModelSpec
    vectors: tuple[Vector, ...] = ()


class Results(Struct, frozen=True):
    title: Words
    models: tuple[SteeredModel, ...]
    texts: tuple[TextResult, ...]
    charts: tuple[CurveChart, ...]
    listing: Listing

    def __post_init__(self) -> None:
        for opening in _openings(self.listing):
            if not (0 <= opening.text < len(self.texts) and 0 <= opening.model < len(self.models)):
                raise ValueError("a row of results opens a text, or a model, that is not there")
            if not 0 <= opening.position < max(len(self.texts[opening.text].token_ids), 1):
                raise ValueError("a row of results opens a token that its text has not")


def _openings(listing: Listing) -> list[Opening]:
    found = [opening for row in listing.rows for opening in row.opens]
    for row in listing.rows:
        if row.inside is not None:
            found += _openings(row.inside)
    return found
