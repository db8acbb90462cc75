"""RunData: what is known of a run, as text, arrays, tables and drawings; with a model or without one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from tui_entropy.api.answers import Answer
from tui_entropy.api.drawing import Drawing
from tui_entropy.api.frames import frame_of
from tui_entropy.api.given import similar
from tui_entropy.core.errors import UserError
from tui_entropy.core.escape import visible
from tui_entropy.export import fragment, npz
from tui_entropy.export import html as page
from tui_entropy.export.recorded_run import RunRecord
from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import BY_FIELD, METRICS
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.state.run_view import RunView

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = npt.NDArray[np.float64]
SHOWN = 60
"""Characters of a text in what a run is told as."""


def metric_of(name: str) -> Metric:
    """By its name or its field: 'head entropy', 'head_entropy'. Raises UserError for one that there is not."""
    metric = BY_FIELD.get(name.replace(" ", "_"))
    if metric is None:
        metric = next((one for one in METRICS if one.column == name), None)
    if metric is None:
        raise UserError(f"there is no series {name!r}: {similar(name, BY_FIELD)}")
    return metric


class RunData:
    """One run: the steps there are, in order, and everything that was measured.

    It is a sequence of `Step`, the records that the program itself is made of. Each series of the README is an
    attribute, a float64 array of shape (n_steps,), NaN where it is unknown; information is in nats. A run with an
    unknown name of a series raises AttributeError, `run["name"]` a UserError.

    Example:
        >>> run.entropy.shape == (len(run),)
        True
        >>> float(run["surprisal"].mean()) >= 0
        True
    """

    def __init__(self, number: int, record: RunRecord | None = None) -> None:
        self.number = number
        """Which of its session, from 1 on."""
        self._record = record

    @property
    def record(self) -> RunRecord:
        """All that is known, as exports take it."""
        assert self._record is not None
        return self._record

    @property
    def _view(self) -> RunView:
        return self.record.log.run

    # --- Its text ------------------------------------------------------------------------------------------------

    @property
    def prompt(self) -> str:
        """As it was asked for, without the chat template."""
        return self._view.started.prompt

    @property
    def prompt_tokens(self) -> list[str]:
        """The text of each token that was read before the first step, the chat template's included."""
        return [token.text for token in self._view.started.prompt_tokens]

    @property
    def prompt_ids(self) -> npt.NDArray[np.int64]:
        """(n_prompt,)"""
        return np.array([token.token_id for token in self._view.started.prompt_tokens], dtype=np.int64)

    @property
    def text(self) -> str:
        """What was written, or read as steps; without the prompt."""
        return "".join(self._view.steps.texts)

    @property
    def tokens(self) -> list[str]:
        """(n_steps,) the text that each step completes; '' while a character is still open."""
        return list(self._view.steps.texts)

    @property
    def token_ids(self) -> npt.NDArray[np.int64]:
        """(n_steps,)"""
        return np.array(self._view.steps.ids, dtype=np.int64)

    # --- Its steps -----------------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[Step]:
        """Those that there are."""
        return list(self._view.steps)

    def __len__(self) -> int:
        return len(self._view.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self._view.steps)

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, which: int) -> Step: ...
    @overload
    def __getitem__(self, which: slice) -> list[Step]: ...
    @overload
    def __getitem__(self, which: str) -> Floats: ...
    def __getitem__(self, which: int | slice | str) -> Step | list[Step] | Floats:
        """A step by its index, steps by a slice, or a series by its name: (n_steps,), in nats where it is
        information. Raises IndexError, and UserError for a series that there is not."""
        if isinstance(which, str):
            return self._series(metric_of(which))
        return self._view.steps[which]

    def __getattr__(self, name: str) -> Floats:
        if name not in BY_FIELD:
            raise AttributeError(f"a run has no {name!r}: {similar(name, BY_FIELD)}")
        return self._series(BY_FIELD[name])

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *BY_FIELD]

    def _series(self, metric: Metric) -> Floats:
        values = self._view.steps.values(metric)
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    @property
    def prompt_scores(self) -> dict[str, Floats]:
        """Series -> (n_prompt,) of the tokens of the prompt, NaN for the first, which nothing came before, and where
        they were not scored."""
        return {name: np.array(values, dtype=np.float64) for name, values in self._view.prompt_scores.items()}

    @property
    def knobs(self) -> Knobs:
        """As they are set for the next token."""
        view = self._view
        return view.pending.knobs if view.pending else view.knobs

    @property
    def ended(self) -> str | None:
        """Why it has ended, such as 'end of text' or 'token limit'; None while it has not."""
        return self._view.ended

    @property
    def twin_of(self) -> int | None:
        """Number of the run that it was written beside, with the same noise; None for none."""
        return self._view.started.twin_of

    @property
    def parent(self) -> int | None:
        """Number of the run that it branches off, if it does."""
        return self._view.started.parent

    @property
    def answers(self) -> list[Answer]:
        """What probes have answered about it, by probe and position."""
        found = sorted(self._view.answers.items())
        return [Answer(answer, self.record.log) for _, answer in found]

    # --- As arrays and tables ------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything as arrays, by the names that `export --to npz` gives them, with their units: the first axis is
        the steps. head_entropy_nats is (n_steps, n_layers, n_heads), block_norm_l2 (n_steps, n_layers),
        candidate_logprob_nats (n_steps, n_candidates).

        Example:
            >>> run.arrays()["head_entropy_nats"].shape[0] == len(run)
            True
        """
        return npz.arrays(self.record)

    def to_pandas(self, prompt: bool = False) -> DataFrame:
        """A row for each step, with the columns of `export --to csv`: the unit of a number stands in its name.

        prompt: with the rows of its tokens before. Raises UserError without pandas, which nothing else needs.

        Example:
            >>> frame = run.to_pandas()
            >>> len(frame) == len(run) and "entropy_nats" in frame
            True
        """
        return frame_of([({}, self.record)], prompt)

    # --- Drawn ---------------------------------------------------------------------------------------------------

    def show(self, tint: str = "entropy", unit: str = "nats") -> Drawing:
        """The text tinted by a series, and a table of the tokens of which it is highest.

        tint: a series. unit: 'nats' or 'bits'. Raises UserError for others.

        Example:
            >>> run.show("surprisal", unit="bits").html.count("<table")
            1
        """
        return Drawing(fragment.run_html(self.record, metric_of(tint), _bits(unit)), f"run {self.number}")

    def page(self, unit: str = "nats") -> Drawing:
        """The page of `export --to html`, with every series, chart, candidate and answer, and a script of its own.

        Example:
            >>> run.page().html.startswith("<!DOCTYPE html>")
            True
        """
        return Drawing(page.page(self._in(_bits(unit))), f"page of run {self.number}", is_page=True)

    def _in(self, bits: bool) -> RunRecord:
        record = self.record
        return RunRecord(
            card=record.card, started=record.started, log=record.log, lineage=record.lineage, began=record.began,
            bits=bits,
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return self.show().html

    def _standing(self) -> str:
        return "" if self.ended is None else f", {self.ended}"

    def __repr__(self) -> str:
        tokens = f"{len(self)} token{'s' * (len(self) != 1)}"
        return f"<run {self.number}: {tokens}{self._standing()}: {shortened(self.text or self.prompt)}>"


def shortened(text: str) -> str:
    """Its beginning, in quotes, on one line."""
    cut = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    return f"'{visible(cut, in_table=True)}'"


def _bits(unit: str) -> bool:
    if unit not in ("bits", "nats"):
        raise UserError(f"the unit is {unit!r} but must be 'bits' or 'nats'")
    return unit == "bits"
