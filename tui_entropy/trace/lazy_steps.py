"""Steps that are in a file: read as they are looked at, so that a run costs nothing before."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.step import Bounds, Step
from tui_entropy.state.step_store import StepStore
from tui_entropy.trace.step_codec import Shape

STEPS_PER_PAGE = 512
"""Steps that are read from the file at once."""
OUTLINE = ("texts", "ids", "at", "strays", "bounded")
"""What Steps has of every step, read as a whole."""
Outline = tuple[list[str], "array[int]", "array[float]", list[tuple[int, ...]], list[tuple[Bounds, ...]]]


class StepReader(Protocol):
    """A file with the steps of runs in it, read a part at a time."""

    shape: Shape

    def n_steps(self, run: int) -> int: ...
    def step(self, run: int, index: int) -> Step: ...
    def outline(self, run: int, n: int) -> Outline:
        """OUTLINE of the first n."""

    def columns(
        self, run: int, names: Sequence[str], first: int = 0, last: int | None = None
    ) -> list[array[float]]: ...
    def norms(self, run: int, first: int = 0, last: int | None = None) -> array[float]: ...


class LazySteps(StepStore):
    """The steps of a run that are in a file now, those that it shares included, and behind them what is appended.

    most: how many of those in the file count; all by default.
    """

    def __init__(self, trace: StepReader, run: int, most: int | None = None) -> None:
        self._open = OrderedDict()
        self._trace, self._run = trace, run
        n = trace.n_steps(run)
        self._recorded = n if most is None else min(n, most)
        self._tail = StepStore()
        """Those that are not in the file."""
        self._whole: list[Any] = []
        """OUTLINE, whatever the limit is; nothing until it is asked for."""
        self._pages: dict[int, list[array[float]]] = {}
        self._norm_pages: dict[int, array[float]] = {}
        self._limit: int | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in OUTLINE:
            raise AttributeError(name)
        self._whole = [*self._trace.outline(self._run, self._recorded)]
        for name_of, column in zip(OUTLINE, self._whole, strict=True):
            column.extend(getattr(self._tail, name_of))
            setattr(self, name_of, column[: len(self)])
        return getattr(self, name)

    @property
    def limit(self) -> int | None:
        """The number of steps that count; None for all that there are."""
        return self._limit

    @limit.setter
    def limit(self, wanted: int | None) -> None:
        self._limit = wanted
        n = len(self)
        for name, everything in zip(OUTLINE, self._whole, strict=False):
            shown = getattr(self, name)
            del shown[n:]
            shown.extend(everything[len(shown) : n])

    def append(self, step: Step) -> None:
        """Append a step; one that is in the file already is passed over."""
        if step.index < len(self):
            return
        self._tail.append(step)
        for name, everything in zip(OUTLINE, self._whole, strict=False):
            for column in (everything, getattr(self, name)):
                column.append(getattr(self._tail, name)[-1])

    def first(self, n: int) -> StepStore:
        part = LazySteps(self._trace, self._run, min(n, self._recorded))
        part._tail = self._tail.first(max(n - self._recorded, 0))
        return part

    def __len__(self) -> int:
        n = self._recorded + len(self._tail)
        return n if self._limit is None else min(n, max(self._limit, 0))

    def norms(self, block: int, first: int = 0, last: int | None = None) -> array[float]:
        n_layers = self._trace.shape.n_layers
        if not n_layers:
            return array("f")
        first, last, _ = slice(first, last).indices(len(self))
        found = array("f")
        for page, start, stop in _pages(first, min(last, self._recorded)):
            if page not in self._norm_pages:
                self._norm_pages[page] = self._trace.norms(self._run, page * STEPS_PER_PAGE, self._end(page))
            found += self._norm_pages[page][start * n_layers + block - 1 : stop * n_layers : n_layers]
        return found + self._tail.norms(block, max(first - self._recorded, 0), max(last - self._recorded, 0))

    def _column(self, name: str, first: int, last: int | None) -> array[float]:
        first, last, _ = slice(first, last).indices(len(self))
        found = array("d")
        for page, start, stop in _pages(first, min(last, self._recorded)):
            if page not in self._pages:
                names = [metric.column for metric in METRICS]
                self._pages[page] = self._trace.columns(self._run, names, page * STEPS_PER_PAGE, self._end(page))
            found += self._pages[page][_PLACE[name]][start:stop]
        return found + self._tail._column(name, max(first - self._recorded, 0), max(last - self._recorded, 0))

    def _end(self, page: int) -> int:
        return min((page + 1) * STEPS_PER_PAGE, self._recorded)

    def _read(self, index: int) -> Step:
        if index < self._recorded:
            return self._trace.step(self._run, index)
        return self._tail[index - self._recorded]


_PLACE = {metric.name: place for place, metric in enumerate(METRICS)}


def _pages(first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """(page, first and last of its steps that are wanted) for steps first ... last - 1."""
    while first < last:
        page, start = divmod(first, STEPS_PER_PAGE)
        stop = min(last - page * STEPS_PER_PAGE, STEPS_PER_PAGE)
        yield page, start, stop
        first = page * STEPS_PER_PAGE + stop
