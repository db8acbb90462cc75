"""The tables of an analysis as CSV: values of layers, what changed under control, and predictions.

A text that a spreadsheet would run has an apostrophe in front, as core/escape.py says.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tui_entropy.analysis.corpus.layer_metrics import rounded
from tui_entropy.core.escape import text_cell

Values = Sequence[float | None]
Row = tuple[str, Values]
"""A sentence, and one number for each layer."""
HEADS = {"predictions": "Sentence,Token,Probability,Analysis", "values": "sentence,values"}


def write_values(path: Path, rows: Iterable[Row]) -> None:
    """`sentence,values`: both quoted, the values as a JSON list, null for what is unknown."""
    _write(
        path,
        HEADS["values"],
        ((text_cell(sentence), json.dumps(list(values), separators=(",", ":"))) for sentence, values in rows),
    )


def write_predictions(path: Path, rows: Iterable[tuple[str, str, float, str]]) -> None:
    """`Sentence,Token,Probability,Analysis`: text quoted, the number not."""
    cells = ((text_cell(sentence), text_cell(token), p, analysis) for sentence, token, p, analysis in rows)
    _write(path, HEADS["predictions"], cells)


def write_scores(path: Path, names: Sequence[str], rows: Iterable[tuple[str, str, str, Values]]) -> None:
    """`Model,Analysis,Sentence`, and a column for each of the names, empty for what is unknown."""
    cells = ((model, analysis, text_cell(sentence), *values) for model, analysis, sentence, values in rows)
    _write(path, ",".join(["Model", "Analysis", "Sentence", *names]), cells)


def compared(sentence: str, standard: Values, control: Values) -> list[Row]:
    """The four rows of a sentence: both, their difference, and the difference in % of the standard value."""
    pairs = list(zip(standard, control, strict=True))
    difference = [None if one is None or other is None else rounded(other - one) for one, other in pairs]
    percent = [
        rounded(100 * gap / abs(one)) if gap is not None and one else (0.0 if gap == 0 else None)
        for gap, one in zip(difference, standard, strict=True)
    ]
    ways = (("standard", standard), ("control", control), ("difference", difference), ("percent_change", percent))
    return [(f"{sentence} ({name})", values) for name, values in ways]


def _write(path: Path, head: str, rows: Iterable[Sequence[object]]) -> None:
    table = io.StringIO(newline="")
    table.write(head + "\n")
    csv.writer(table, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerows(rows)
    path.write_bytes(table.getvalue().encode("utf-8", "surrogatepass"))
