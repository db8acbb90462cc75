"""Tables of pandas, where that is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tui_entropy.core.errors import UserError
from tui_entropy.export.columns import COLUMNS, rows
from tui_entropy.export.recorded_run import RunRecord

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(columns: Mapping[str, Any]) -> DataFrame:
    """Name -> values, as a DataFrame. Raises UserError without pandas."""
    try:
        from pandas import DataFrame
    except ModuleNotFoundError:
        raise UserError(
            "pandas is not installed, and a DataFrame is one of its: pip install pandas, or take the arrays"
        ) from None
    return DataFrame(columns)


def frame_of(records: Iterable[tuple[Mapping[str, Any], RunRecord]], prompt: bool) -> DataFrame:
    """A row for each token of runs, with the columns of an export. records: what stands first in each row, and the
    run. Steps count from 0 here, as in `run[0]`."""
    table: dict[str, list[Any]] = {}
    firsts: list[str] = []
    for first, record in records:
        firsts = list(first)
        for step, row in rows(record):
            if step is None and not prompt:
                continue
            values = {**first, **dict(zip(COLUMNS, row, strict=True)), "step": None if step is None else step.index}
            for name, value in values.items():
                table.setdefault(name, []).append(value)
    return frame(table or {name: [] for name in (*firsts, *COLUMNS)})
