"""Runs: several of them, of one session or one trace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from tui_entropy.api.frames import frame_of
from tui_entropy.api.given import plain, text_of
from tui_entropy.api.run_data import RunData
from tui_entropy.core.errors import UserError
from tui_entropy.export.recorded_run import RunRecord
from tui_entropy.records.events import Started
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.library import resolve
from tui_entropy.trace.lineage import lineage_of
from tui_entropy.trace.reader import Trace

if TYPE_CHECKING:
    from pandas import DataFrame

R = TypeVar("R", bound=RunData)
SHOWN = 10
"""Runs that are told one by one, and drawn."""


class Runs(Sequence[R], Generic[R]):
    """Runs in their order, with a label each: the index of the Series that their texts came from, else the number.

    Example:
        >>> runs = inspector.read_all({"fox": "The quick brown fox.", "dog": "A lazy dog sleeps."})
        >>> runs.labels, runs[1].text
        (['fox', 'dog'], ' lazy dog sleeps.')
    """

    def __init__(self, runs: Iterable[R], labels: Iterable[Any] | None = None) -> None:
        self._runs = tuple(runs)
        self.labels: list[Any] = [run.number for run in self._runs] if labels is None else list(labels)

    @property
    def last(self) -> R:
        """The one that was looked at last, of a trace; else the newest. Raises UserError where there is none."""
        if not self._runs:
            raise UserError("there is no run here: write one first")
        return self._runs[-1]

    def number(self, number: int) -> R:
        """The run of this number. Raises UserError for one that there is not."""
        for run in self._runs:
            if run.number == plain(number):
                return run
        numbers = ", ".join(str(run.number) for run in self._runs) or "none"
        raise UserError(f"there is no run {number!r} here: there are {numbers}")

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[R]:
        return iter(self._runs)

    @overload
    def __getitem__(self, which: int) -> R: ...
    @overload
    def __getitem__(self, which: slice) -> Runs[R]: ...
    def __getitem__(self, which: int | slice) -> R | Runs[R]:
        if isinstance(which, slice):
            return Runs(self._runs[which], self.labels[which])
        return self._runs[which]

    def to_pandas(self, prompt: bool = False) -> DataFrame:
        """The rows of all of them, as of `RunData.to_pandas`, with `label` in front. Raises UserError without pandas.

        Example:
            >>> frame = inspector.read_all(["The quick brown fox.", "A lazy dog."]).to_pandas()
            >>> frame.groupby("label")["surprisal_nats"].mean().shape
            (2,)
        """
        pairs = zip(self.labels, self._runs, strict=True)
        return frame_of((({"label": label}, run.record) for label, run in pairs), prompt)

    def _repr_html_(self) -> str:
        return "".join(run._repr_html_() for run in self._runs[:SHOWN])

    def __repr__(self) -> str:
        more = [f"… and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n ".join([f"<{len(self)} runs>", *map(repr, self._runs[:SHOWN]), *more])


class RecordedRuns(Runs[RunData]):
    """Those of a trace."""

    def __init__(self, runs: Iterable[RunData], last: RunData) -> None:
        super().__init__(runs)
        self._last = last

    @property
    def last(self) -> RunData:
        return self._last


def load_trace(path: str | PathLike[str]) -> RecordedRuns:
    """The runs of a recording, without a model: texts, arrays, tables, and what probes had answered.

    path: a file, a name of `tui-entropy traces` or a part of it, or 'last'. Raises UserError for what is no
    recording, or holds no run.

    Example:
        >>> runs = load_trace(recording)
        >>> runs.last.entropy.shape == (len(runs.last),)
        True
    """
    file = resolve(text_of(plain(path), "the path"))
    trace = Trace.open(Path(file))
    log = trace.log()
    if log.started is None or log.card is None:
        raise UserError(f"{file} holds no run that could be read, or does not say which model wrote it")
    began = {event.run: wall for _, wall, event in trace.events() if isinstance(event, Started)}
    found = {}
    for number, view in log.runs.items():
        own = SessionView(card=log.card, runs=log.runs, run=view)
        own.state, own.note = "ended", view.ended or "unfinished"
        record = RunRecord(
            card=log.card,
            started=view.started,
            log=own,
            lineage=lineage_of(log.runs, number),
            began=began.get(number, time.time()),
        )
        found[number] = RunData(number, record)
    return RecordedRuns(found.values(), found[log.run_number])
