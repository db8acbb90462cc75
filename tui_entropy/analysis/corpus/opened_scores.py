"""The uncertainty scores of an analysis as results: each score over the sentences, the least certain ones first."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, median

from tui_entropy.analysis.corpus.results import SCORES_TABLE
from tui_entropy.core.errors import UserError
from tui_entropy.core.escape import plain_cell
from tui_entropy.core.files import text_of
from tui_entropy.records.corpus.results import Listing, Opening, Row
from tui_entropy.records.corpus.uncertainty import BY_NAME
from tui_entropy.records.probes.panels import OF_ROW, UNIT, Column

TOLD = ("mean", "lowest", "median", "highest")
COLUMNS = Column("score"), Column("unit", UNIT), *(Column(name, OF_ROW) for name in TOLD), Column("sentences")
NOTE = "Higher is less certain, in all of them."
Scored = list[tuple[str, dict[str, float | None]]]
"""Sentence, and what it has of each score."""


def scores_rows(folder: Path, models: Mapping[str, int], texts: dict[str, int]) -> Iterator[Row]:
    """A row for each model and analysis of a folder's table of scores, where it has one.

    models: name -> its place among those that a text is opened with. texts: sentence -> its place, added to. Raises
    UserError for a table that somebody changed.
    """
    file = folder / SCORES_TABLE
    if not file.is_file():
        return
    for (model, analysis), scored in _table(file).items():
        if model not in models:
            raise UserError(f"{file} has a model {model!r} that is not in the summary: run the analysis anew")
        rows = tuple(_row(name, scored, models[model], texts) for name in scored[0][1])
        inside = Listing(f"uncertainty of {len(scored)} sentences, {analysis}, {model}", COLUMNS, rows, NOTE)
        yield Row(("uncertainty scores", "", "", "", "", model, analysis, len(scored)), inside)


def _row(name: str, scored: Scored, place: int, texts: dict[str, int]) -> Row:
    """A score, which opens into its sentences."""
    known = [(value, sentence) for sentence, values in scored if (value := values[name]) is not None]
    known.sort(key=lambda one: -one[0])
    values, unit = [value for value, _ in known], BY_NAME[name].unit if name in BY_NAME else ""
    told = (fmean(values), values[-1], median(values), values[0]) if values else (None,) * 4
    sentences = tuple(
        Row((value, sentence), opens=(Opening(texts.setdefault(sentence, len(texts)), 0, place),))
        for value, sentence in known
    )
    inside = Listing(name, (Column("score", unit), Column("sentence")), sentences, "The least certain first.")
    return Row((name, unit, *told, len(values)), inside if sentences else None)


def _table(file: Path) -> dict[tuple[str, str], Scored]:
    """Raises UserError."""
    table: dict[tuple[str, str], Scored] = {}
    try:
        csv.field_size_limit(1 << 27)
        for row in csv.DictReader(io.StringIO(text_of(file), newline="")):
            its = table.setdefault((row.pop("Model"), row.pop("Analysis")), [])
            sentence = plain_cell(row.pop("Sentence"))
            its.append((sentence, {name: _number(value) if value else None for name, value in row.items()}))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read ({error}): run the analysis anew") from error
    return table


def _number(text: str) -> float:
    """Raises ValueError."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"a score cannot be {text}")
    return value
