"""Attention rows for a view: those that the engine was asked for, or those that are recorded with the steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tui_entropy.records.probes.attention_rows import AttentionRows
from tui_entropy.records.quantised_rows import TopKeys
from tui_entropy.ui.views.frame import Frame

SINK = 0
"""Position of the key that many heads look at where nothing else is of use: the first one. It is told apart."""

UNRECORDED = "No attention rows are recorded of this token. The heads show their entropies."
OTHER_FORM = (
    "The attention rows of this recording are kept in a form that this version does not know: update tui-entropy."
)


class WholeRow(NamedTuple):
    """The weights of one query as an engine answers: of each key of a stretch."""

    query: int
    """Its position."""
    first: int
    of_keys: Sequence[float]
    """NaN where a key is not visible."""
    rest: float
    """What all keys get together of which no more is known."""

    @property
    def sink(self) -> float | None:
        """What the first key gets; None where that is unknown, or it is not visible."""
        weight = self.of_keys[SINK] if self.first == SINK and self.of_keys else math.nan
        return None if math.isnan(weight) else weight

    def weights(self) -> Iterator[tuple[int, float]]:
        """(key, weight) of every key but the first, as far as they are known."""
        for key, weight in enumerate(self.of_keys, self.first):
            if key != SINK and not math.isnan(weight):
                yield key, weight


class RecordedRow(NamedTuple):
    """The same as it is recorded: of the keys that get most."""

    query: int
    top: TopKeys

    @property
    def sink(self) -> float | None:
        return self.top.weights[0] if self.top.keys[0] == SINK else None

    @property
    def rest(self) -> float:
        return self.top.rest

    def weights(self) -> Iterator[tuple[int, float]]:
        return ((key, w) for key, w in zip(self.top.keys, self.top.weights, strict=True) if key != SINK)


Row = WholeRow | RecordedRow
"""The weights of one query."""


class ShownRows(NamedTuple):
    """Rows of one block and head, oldest first, and what they are."""

    layer: int
    head: int | None
    """1-based; None for the mean of heads, also where another one is looked at that is not recorded."""
    rows: list[Row]
    recorded: bool = False

    @property
    def kind(self) -> str:
        return "mean of heads" if self.head is None else f"head {self.head}"


def answered(rows: AttentionRows | None) -> ShownRows | None:
    """What an engine answered."""
    if rows is None or not rows.queries:
        return None
    grid = rows.weights
    known = enumerate(rows.queries)
    whole = [WholeRow(query, rows.first_key, grid.row(at), rows.elsewhere[at]) for at, query in known]
    return ShownRows(rows.layer, rows.head, [*whole])


def recorded(frame: Frame, most: int) -> ShownRows | None:
    """At most so many rows that are recorded with the step under the cursor and those before it: of the head that is
    looked at, or where that one is not recorded of the mean of heads."""
    step, steps = frame.step, frame.log.steps
    if step is None or step.attention_rows is None:
        return None
    for head in dict.fromkeys((frame.head, None)):
        rows = list[Row]()
        while len(rows) < most and step is not None and step.attention_rows is not None:
            if (top := step.attention_rows.row(frame.layer, head)) is None:
                break
            rows.append(RecordedRow(step.position - 1, top))
            step = steps[step.index - 1] if step.index > 0 else None
        if rows:
            return ShownRows(frame.layer, head, rows[::-1], recorded=True)
        step = frame.step
    return None


def rows_of(frame: Frame, most: int) -> ShownRows | None:
    """The rows up to that of the query that chose the step under the cursor, newest last. Live those that the engine
    answered last, as long as it can."""
    live = None if frame.played else answered(frame.log.attention)
    return live or recorded(frame, most)


def row_of(frame: Frame) -> ShownRows | None:
    """The one row of the query that chose the step under the cursor: the recorded one where it is of the head that is
    looked at, else what the engine answered of just this one, else the mean of heads."""
    if frame.step is None:
        return None
    kept = recorded(frame, 1)
    if kept is not None and kept.head == frame.head:
        return kept
    live = None if frame.played else answered(frame.log.attention)
    here = (frame.layer, frame.head, frame.step.position - 1)
    if live is not None and (live.layer, live.head, live.rows[-1].query) == here:
        return ShownRows(live.layer, live.head, live.rows[-1:])
    return kept


def has_rows(frame: Frame) -> bool:
    """Whether rows can be had here: of this model at all, and in a recording of the step under the cursor."""
    card, step = frame.log.card, frame.step
    if card is None or not any(card.attention):
        return False
    return not frame.played or (step is not None and step.attention_rows is not None)


def unavailable(frame: Frame) -> str:
    """Why there are no rows, for a person; empty where nothing is known of that."""
    step, card = frame.step, frame.log.card
    if card and 1 <= frame.layer <= card.n_layers and not card.attention[frame.layer - 1]:
        return f"Block {frame.layer} has no attention rows ({card.layer_kinds[frame.layer - 1]})."
    if not frame.played or step is None:
        return ""
    if step.attention_rows is not None and not step.attention_rows.readable:
        return OTHER_FORM
    return UNRECORDED
