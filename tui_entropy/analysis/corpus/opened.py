"""The folder of an analysis as results: curves over layers, and sentences that open in the inspector."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tui_entropy.analysis.corpus.layer_metrics import METRICS, LayerMetric
from tui_entropy.analysis.corpus.opened_scores import scores_rows
from tui_entropy.analysis.corpus.run_folder import JOURNAL, SUMMARY
from tui_entropy.core.errors import UserError
from tui_entropy.core.escape import plain_cell
from tui_entropy.core.files import text_of
from tui_entropy.records.corpus.results import (
    Curve,
    CurveChart,
    Listing,
    Opening,
    Results,
    Row,
    SteeredModel,
    TextResult,
)
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.panels import OF_ROW, UNIT, Column

MAX_FAINT = 200
"""Sentences that have a curve of their own; of more every few."""
UNITS = {
    "layer_entropies": "nats",
    "layer_kl_divs": "nats",
    "layer_attn_entropies": "nats",
    "layer_surprisals": "nats",
}
LAST = {"comparative": "_comparative"}
"""What stands at the end of a table's name, by its analysis."""


class _Table(NamedTuple):
    sentences: list[str]
    values: list[list[float | None]]


def results_of_folder(path: Path) -> Results:
    """Raises UserError for what is no folder of an analysis, for one that is not done, and for tables that somebody
    changed."""
    summary = _summary(path)
    models = list(summary["models"])
    texts: dict[str, int] = {}
    charts: list[CurveChart] = []
    rows = [
        row
        for place, model in enumerate(models)
        for analysis in ("standard", "control", "comparative")
        for metric in METRICS
        for row in _rows(path, model, place, analysis, metric, texts, charts)
    ]
    rows += scores_rows(path, {model: place for place, model in enumerate(models)}, texts)
    if not rows:
        raise UserError(f"{path} has no tables of values, though {SUMMARY} is there: run the analysis anew")
    measured = (Column(name, OF_ROW) for name in ("first", "middle", "last"))
    columns = Column("metric"), *measured, Column("unit", UNIT), *map(Column, ("model", "analysis", "sentences"))
    specs = tuple(SteeredModel(ModelSpec(str(summary["models"][model]["model"]))) for model in models)
    note = "First, middle and last layer: means over the sentences."
    note += _left_out(summary)
    return Results(
        f"analysis {summary['run_id']}",
        specs,
        tuple(TextResult(f"sentence {at + 1}", (), text) for text, at in texts.items()),
        tuple(charts),
        Listing("layers", columns, tuple(rows), note),
    )


def _left_out(summary: dict[str, Any]) -> str:
    """How many lines are no sentences, or none to a model; empty where all are."""
    of_models = (one.get("left_out", ()) for one in summary["models"].values())
    places = {place for one in (summary.get("left_out", ()), *of_models) for place, _ in one}
    were = "line was" if len(places) == 1 else "lines were"
    return f" {len(places)} {were} left out; {SUMMARY} tells why." if places else ""


def _summary(path: Path) -> dict[str, Any]:
    if (path / JOURNAL).exists():
        raise UserError(f"{path} is not done: tui-entropy analyze --resume {path} goes on with it")
    try:
        summary = json.loads(text_of(path / SUMMARY))
        if isinstance(summary["models"], dict) and all("model" in one for one in summary["models"].values()):
            return dict(summary)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(
        f"{path} is no folder of an analysis ({SUMMARY} is missing or damaged): name one that analyze wrote"
    )


def _rows(
    path: Path,
    model: str,
    place: int,
    analysis: str,
    metric: LayerMetric,
    texts: dict[str, int],
    charts: list[CurveChart],
) -> Iterator[Row]:
    """One for a table that is there, with its curves added to the charts and its sentences to the texts."""
    file = path / analysis / "data" / f"{model}_{metric.name}{LAST.get(analysis, '')}.csv"
    if not file.is_file():
        return
    table = _table(file)
    if analysis == "comparative":
        table = _differences(table)
    known = np.array([[np.nan if v is None else v for v in row] for row in table.values], dtype=float)
    if known.ndim != 2 or not np.isfinite(known).any():
        return
    name, _, unit = metric.title.removesuffix(")").partition(" (")
    title = f"{name}, control less standard" if analysis == "comparative" else f"{name}, {analysis}"
    charts.append(_chart(f"{title}, {model}", name, unit, metric.first, known))
    mean = [float(v) if np.isfinite(v) else None for v in known.mean(0)]
    inside = Listing(
        title,
        (Column("sentence"), *(Column(f"layer {metric.first + at}", unit) for at in _told(len(mean)))),
        tuple(
            Row(
                (sentence, *(values[at] for at in _told(len(values)))),
                opens=(Opening(texts.setdefault(sentence, len(texts)), 0, place),),
            )
            for sentence, values in zip(table.sentences, table.values, strict=True)
        ),
    )
    told = tuple(mean[at] for at in (0, len(mean) // 2, len(mean) - 1))
    cells = name, *told, unit, model, analysis, len(table.sentences)
    yield Row(cells, inside, chart=len(charts) - 1)


def _told(n: int) -> tuple[int, ...]:
    """Layers that a table of sentences has: the first, those at each quarter, and the last."""
    return tuple(dict.fromkeys(round(part * (n - 1) / 4) for part in range(5)))


def _chart(title: str, name: str, unit: str, first: int, values: np.ndarray) -> CurveChart:
    """Each sentence faint, their mean, and a band of one standard deviation around it."""
    x = tuple(float(first + at) for at in range(values.shape[1]))
    every = max(-(-len(values) // MAX_FAINT), 1)
    mean, spread = values.mean(0), values.std(0)
    curves = [Curve("mean", x, _known(mean), 1)] + [Curve("sentences", x, _known(row), 0) for row in values[::every]]
    low, high = (_known(edge) for edge in (mean - spread, mean + spread))
    return CurveChart(title, "layer", Column(name, unit), tuple(curves), low, high)


def _known(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(value) if np.isfinite(value) else None for value in values)


def _table(file: Path) -> _Table:
    """Raises UserError."""
    table = _Table([], [])
    try:
        csv.field_size_limit(1 << 27)
        for row in csv.DictReader(io.StringIO(text_of(file), newline="")):
            values = json.loads(row["values"])
            table.sentences.append(plain_cell(row["sentence"]))
            table.values.append([None if value is None else float(value) for value in values])
    except (OSError, ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({error}): run the analysis anew") from error
    if len(set(map(len, table.values))) > 1:
        raise UserError(f"{file} has rows of different lengths: run the analysis anew")
    return table


def _differences(table: _Table) -> _Table:
    """The rows of what control changed, by their sentences."""
    end = " (difference)"
    kept = [at for at, sentence in enumerate(table.sentences) if sentence.endswith(end)]
    return _Table([table.sentences[at].removesuffix(end) for at in kept], [table.values[at] for at in kept])
