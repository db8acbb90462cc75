"""The steps of a run, kept small: a step is ten kilobytes of Python objects and three as bytes."""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.step import BLOCKS, Bounds, Step

OPEN = 64
"""Steps that are kept as objects: what is looked at is looked at again."""

NORM = BLOCKS.index("norm")

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Step)


class StepStore(Sequence[Step]):
    """Grows at its end. What is read along the text (words, metric, time) is kept as columns beside the records."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        """What each step completes."""
        self.ids: array[int] = array("l")
        """Of the written tokens."""
        self.at = array("d")
        """Seconds of work, as Step.at."""
        self.strays: list[tuple[int, ...]] = []
        """Blocks (1-based) that left their band, as Step.strays."""
        self.bounded: list[tuple[Bounds, ...]] = []
        """What is known of numbers whose value is not, as Step.bounds."""
        self._norms = array("f")
        """n_layers per step."""
        self._packed: list[bytes] = []
        self._open: OrderedDict[int, Step] = OrderedDict()
        self._columns = {metric.name: array("d") for metric in METRICS}

    def append(self, step: Step) -> None:
        self._keep_open(len(self), step)
        self._packed.append(_encoder.encode(step))
        self.texts.append(step.text)
        self.ids.append(step.token_id)
        self.at.append(step.at)
        self.strays.append(step.strays)
        self.bounded.append(step.bounds)
        self._norms.extend(step.blocks.column(NORM))
        for metric in METRICS:
            value = metric.read(step)
            self._columns[metric.name].append(math.nan if value is None else value)

    def first(self, n: int) -> StepStore:
        """The first n of them, to be gone on with otherwise. What was recorded of a step is shared."""
        part = StepStore()
        part.texts, part.ids, part.at, part.strays = self.texts[:n], self.ids[:n], self.at[:n], self.strays[:n]
        part._packed = self._packed[:n]
        part._norms = self._norms[: n * (len(self._norms) // max(len(self), 1))]
        part.bounded = self.bounded[:n]
        part._columns = {name: column[:n] for name, column in self._columns.items()}
        return part

    def values(self, metric: Metric, first: int = 0, last: int | None = None) -> Iterator[float | None]:
        """The series as `metric.read` gives it (nats where it is information), for steps first ... last - 1."""
        return (None if math.isnan(value) else value for value in self._column(metric.name, first, last))

    def bounds(self, metric: Metric, first: int, last: int) -> dict[int, tuple[float, float]]:
        """Index -> (low, high), in the unit of `values`, of those of the steps first ... last - 1 where no more than
        that is known of a metric."""
        return {
            index: (one.low, one.high)
            for index, bounds in enumerate(self.bounded[first:last], first)
            for one in bounds
            if one.name == metric.field
        }

    def _column(self, name: str, first: int, last: int | None) -> array[float]:
        return self._columns[name][first:last]

    def norms(self, block: int, first: int = 0, last: int | None = None) -> array[float]:
        """L2 norm of the residual stream after a block (1-based), for steps first ... last - 1."""
        n_layers = len(self._norms) // max(len(self), 1)
        if not n_layers:
            return array("f")
        first, last, _ = slice(first, last).indices(len(self))
        return self._norms[first * n_layers + block - 1 : last * n_layers : n_layers]

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        step = self._open.get(index) or self._read(index)
        self._keep_open(index, step)
        return step

    def _read(self, index: int) -> Step:
        return _decoder.decode(self._packed[index])

    def _keep_open(self, index: int, step: Step) -> None:
        self._open[index] = step
        self._open.move_to_end(index)
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
