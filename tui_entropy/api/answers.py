"""What a probe answered, with its numbers as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tui_entropy.api.drawing import Drawing
from tui_entropy.api.frames import frame
from tui_entropy.core.errors import UserError
from tui_entropy.export import fragment
from tui_entropy.records.probes import panels as records
from tui_entropy.records.probes.ask import ProbeAnswer, Value
from tui_entropy.records.probes.panels import Axis, Bars, Cell, Flow, Graph, Heatmap, Note, Table, TintedText, Tokens
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView

if TYPE_CHECKING:
    from pandas import DataFrame

Word = Callable[[int], str]
"""The token at a position of the text."""


class Panel:
    """One part of an answer: a grid, bars, a tinted text, a table, a graph, a flow, a note or a step.

    Information is in nats and a share between 0 and 1, whatever the screen shows.

    Example:
        >>> panel = inspector.probe("lens")[0]
        >>> panel.kind, panel.values.shape == (len(panel.rows), len(panel.columns))
        ('heatmap', True)
    """

    def __init__(self, record: records.Panel, word: Word) -> None:
        self.record = record
        """As it is sent and recorded."""
        self._word = word

    @property
    def kind(self) -> str:
        """'heatmap', 'bars', 'text', 'table', 'graph', 'flow', 'note' or 'step'."""
        return "step" if isinstance(self.record, Step) else str(self.record.__struct_config__.tag)

    @property
    def title(self) -> str:
        return f"step {self.record.index}" if isinstance(self.record, Step) else self.record.title

    @property
    def unit(self) -> str:
        """Of its values: 'nats', 'nats²', 'share', ...; '' for none. Those of a table are in `units`."""
        return getattr(self.record, "unit", "")

    @property
    def units(self) -> dict[str, str]:
        """Of a table: column -> unit."""
        return {one.name: one.unit for one in self.record.columns} if isinstance(self.record, Table) else {}

    @property
    def values(self) -> npt.NDArray[Any]:
        """Of a heat map (rows, columns) float32; of bars and a tinted text (n,) float64; of a graph (n_edges,); of a
        flow (n_nodes,) shares; of a table (rows, columns) objects. NaN is unknown. Raises UserError for a note and a
        step, which are no array."""
        match self.record:
            case Heatmap():
                return self.record.values.numpy().copy()
            case Bars() | TintedText():
                return np.array([math.nan if one is None else one for one in self.record.values], dtype=np.float64)
            case Graph():
                return np.array([edge.weight for edge in self.record.edges], dtype=np.float64)
            case Flow():
                return np.array([node.share for node in self.record.nodes], dtype=np.float64)
            case Table():
                made = np.empty((len(self.record.rows), len(self.record.columns)), dtype=object)
                for at, row in enumerate(self.record.rows):
                    made[at] = list(map(_cell, row))
                return made
        raise UserError(f"a {self.kind} has no array of values: take its text, or its record")

    @property
    def rows(self) -> list[str]:
        """What its rows are called: those of a heat map, bars, or the tokens of a tinted text."""
        match self.record:
            case Heatmap() | Flow():
                return self._names(self.record.rows)
            case Bars():
                return self._names(self.record.axis)
            case TintedText():
                return list(map(self._word, self.record.positions))
        return []

    @property
    def columns(self) -> list[str]:
        """What its columns are called."""
        match self.record:
            case Heatmap() | Flow():
                return self._names(self.record.columns)
            case Table():
                return [one.name for one in self.record.columns]
        return []

    @property
    def tokens(self) -> npt.NDArray[Any]:
        """(rows, columns) texts that stand in the cells of a heat map; without any (0, 0)."""
        record = self.record
        if not isinstance(record, Heatmap) or not record.tokens:
            return np.empty((0, 0), dtype=object)
        return np.array(list(map(_cell, record.tokens)), dtype=object).reshape(record.values.shape)

    @property
    def text(self) -> str:
        """Of a note; '' of all else."""
        return self.record.text if isinstance(self.record, Note) else ""

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """(rows,) one column of a table. Raises UserError for one that there is not."""
        if column not in self.columns or not isinstance(self.record, Table):
            known = ", ".join(self.columns) if isinstance(self.record, Table) else "none, as it is no table"
            raise UserError(f"there is no column {column!r} in this {self.kind}: it has {known}")
        return np.array(list(self.values[:, self.columns.index(column)]))

    def to_pandas(self) -> DataFrame:
        """As a DataFrame. Raises UserError without pandas, and for a note or a step."""
        match self.record:
            case Table():
                return frame({name: self[name] for name in self.columns})
            case Heatmap():
                values = self.values
                made = frame({str(at): values[:, at] for at in range(values.shape[1])})
                made.index, made.columns = self.rows, self.columns
                return made
            case Graph():
                nodes, edges = self.record.nodes, self.record.edges
                ends = {
                    "source": [nodes[edge.source].label for edge in edges],
                    "target": [nodes[edge.target].label for edge in edges],
                }
                return frame({**ends, "weight": self.values})
            case Flow():
                nodes_of = self.record.nodes
                places = {
                    "row": [self.rows[node.row] for node in nodes_of],
                    "column": [self.columns[node.column] for node in nodes_of],
                }
                return frame({**places, "share": self.values})
        return frame({"name": self.rows, "value": self.values})

    def _names(self, axis: Axis) -> list[str]:
        return list(axis.labels) or list(map(self._word, axis.positions))

    def __repr__(self) -> str:
        shape = "" if self.kind in ("note", "step") else f" {self.values.shape}"
        return f"<{self.kind} {self.title!r}{shape}{f', {self.unit}' if self.unit else ''}>"


class Answer:
    """What a probe answered about a token: a sequence of panels.

    Example:
        >>> answer = inspector.probe("lens", k=3)
        >>> answer.name, answer.options["k"], len(answer) > 1
        ('lens', 3, True)
    """

    def __init__(self, record: ProbeAnswer, log: SessionView) -> None:
        """log: of the text that it is about."""
        self.record = record
        """As it is sent and recorded."""
        self._log = log
        self.panels = tuple(Panel(panel, self._word) for panel in record.panels)

    @property
    def name(self) -> str:
        """Of the probe."""
        return self.record.name

    @property
    def position(self) -> int:
        """Of the token in the whole context, the prompt included, from 0 on."""
        return self.record.position

    @property
    def options(self) -> dict[str, Value]:
        """Every option that it was asked under."""
        return dict(self.record.options)

    @property
    def unavailable(self) -> str | None:
        """Why there is no answer, in one that was recorded without."""
        return self.record.unavailable

    @property
    def seconds(self) -> float:
        """What it took."""
        return self.record.seconds

    def __len__(self) -> int:
        return len(self.panels)

    def __iter__(self) -> Iterator[Panel]:
        return iter(self.panels)

    def __getitem__(self, which: int) -> Panel:
        return self.panels[which]

    def show(self, unit: str = "nats") -> Drawing:
        """Its panels, drawn. unit: 'nats' or 'bits'."""
        if unit not in ("bits", "nats"):
            raise UserError(f"the unit is {unit!r} but must be 'bits' or 'nats'")
        return Drawing(fragment.answer_html(self.record, self._log, unit == "bits"), f"answer of {self.name}")

    def _repr_html_(self) -> str:
        return self.show().html

    def _word(self, position: int) -> str:
        from tui_entropy.ui.views.wording import token_at

        return token_at(self._log, position, ascii_only=False)

    def __repr__(self) -> str:
        if self.unavailable is not None:
            return f"<{self.name} at position {self.position}: no answer, {self.unavailable}>"
        return "\n  ".join([f"<{self.name} at position {self.position}, {len(self)} panels>", *map(repr, self)])


def _cell(cell: Cell) -> Any:
    """A token as its text, and what is unknown as NaN among numbers."""
    if isinstance(cell, Tokens):
        return cell.token_bytes.decode("utf-8", "replace")
    return math.nan if cell is None else cell
