"""Attention rows: which earlier tokens a layer looked at while the model chose a token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tui_entropy.engine.probes.probe import NOTHING, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.attention_rows import ATTENTION_ROWS, AttentionRows, RowOptions, RowWindow
from tui_entropy.records.probes.panels import Cell, Column, Panel, Table

MOST_TOLD = 12
"""Keys that are told by name."""


def compute(at: ProbeContext, options: RowOptions) -> Sequence[Panel]:
    """Rows of the token before, whose pass chose the one asked about, and of those before that."""
    window = RowWindow(
        options.layer, options.head, at.position - 1, options.n_queries, options.first_key, options.n_keys
    )
    rows = at.rows(window)
    if rows.unavailable is not None:
        raise Unavailable(rows.unavailable)
    newest = at.rows(RowWindow(options.layer, options.head, at.position - 1, 1, 0, at.position))
    return *rows.panels, _looked_at(at, newest.weights.numpy()[-1])


def _looked_at(at: ProbeContext, weights: npt.NDArray[Any]) -> Table:
    """The largest weights of the newest row, also of keys outside the window, as they are and among all keys but the
    first token of the text."""
    ids, row = at.sequence.ids, np.nan_to_num(weights.astype(np.float64))
    others = float(row[1:].sum())
    cells: list[tuple[Cell, ...]] = []
    for position in np.argsort(-row, kind="stable")[:MOST_TOLD].tolist():
        weight = float(row[position])
        apart = weight / others if position and others > 0 else None
        if weight > 0:
            cells.append((at.token(int(ids[position])), position, weight, apart))
    columns = Column("token"), Column("position"), Column("weight", "share"), Column("first token apart", "share")
    looking = at.token(int(ids[at.position - 1])).token_bytes.decode("utf-8", "replace")
    return Table(f"what {looking!r} looked at most", columns, tuple(cells))


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """Each row against the model's own eager attention."""
    rows = AttentionRows.of(answer)
    weights = evidence.weights(rows.layer)
    if answer.unavailable or weights is None:
        return
    expected = weights.mean(0)[list(rows.queries)]
    shown = np.where(np.isnan(rows.weights.numpy()), 0.0, rows.weights.numpy())
    last = min(rows.first_key + shown.shape[1], expected.shape[1])
    yield Difference(shown[:, : last - rows.first_key], expected[:, rows.first_key : last], 1.0)
    others = expected.sum(-1) - expected[:, rows.first_key : last].sum(-1)
    yield Difference([0.0 if math.isnan(one) else one for one in rows.elsewhere], others, 1.0)


PROBE = Probe(
    ATTENTION_ROWS,
    "Which earlier tokens a layer looked at while the model chose this one.",
    NOTHING,
    RowOptions,
    compute,
    check,
    trust="attention",
    is_light=True,
    page="attention",
)
