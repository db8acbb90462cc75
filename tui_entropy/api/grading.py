"""Grading from Python: uncertainty scores of sentences that are right or wrong, as arrays and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tui_entropy.analysis.grading.grade import GradedRun, ScoreGrade
from tui_entropy.analysis.grading.graded import GradedSet, graded_rows, graded_set
from tui_entropy.analysis.grading.run import graded_run
from tui_entropy.api.frames import frame
from tui_entropy.api.given import model_of, plain, text_of, whole
from tui_entropy.api.live import alone
from tui_entropy.core.errors import UserError
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.texts import Bos
from tui_entropy.records.corpus.uncertainty import ScoreSettings, score_names
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.settings import Vector

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = npt.NDArray[np.float64]


class Grading:
    """What grading came to: how well each score tells wrong sentences from right ones, and each sentence's scores."""

    def __init__(self, found: GradedRun) -> None:
        self._found = found

    @property
    def grades(self) -> tuple[ScoreGrade, ...]:
        """Of each score its AUROC for "this is wrong" with its standard error, and the areas of its rejection curve;
        those that tell best first."""
        return self._found.report.scores

    @property
    def auroc(self) -> dict[str, float]:
        """0 ... 1 of each score, 0.5 for one that tells nothing; NaN where all are right, or all wrong."""
        return {one.name: np.nan if one.auroc is None else one.auroc for one in self.grades}

    @property
    def scores(self) -> dict[str, Floats]:
        """(n,) of each score, higher where the model is less certain; NaN is unknown."""
        return self._found.values

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(n,) whether each sentence is right; of a question, whether its most likely answer is."""
        return np.array([one.correct for one in self._found.items], dtype=bool)

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence about each that could not be read or scored."""
        return self._found.report.left_out

    def __len__(self) -> int:
        return len(self._found.items)

    def to_pandas(self) -> DataFrame:
        """A row for each sentence: prompt, sentence, correct, and its scores. Raises UserError without pandas."""
        items = self._found.items
        about = {"prompt": [one.prompt for one in items], "sentence": [one.sentence for one in items]}
        return frame({**about, "correct": self.correct, **self.scores})

    def __repr__(self) -> str:
        best = next((f", {one.name} has AUROC {one.auroc:.2f}" for one in self.grades if one.auroc is not None), "")
        report = self._found.report
        return f"<grading: {report.n_wrong} of {report.n} {report.of} wrong{best}>"


def run_grading(
    graded: Any,
    model: str | PathLike[str] | ModelSpec | Loaded | PreTrainedModel = "smollm2",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    scores: str = "tokens,prompt,attention",
    samples: int = 10,
    sample_tokens: int = 16,
    members: int = 8,
    vectors: Iterable[str | PathLike[str] | Vector] = (),
    seed: int = 0,
    limit: int | None = None,
    bos: Bos = "tokenizer",
) -> Grading:
    """Whether a model is less sure where it is wrong: what `tui-entropy grade` does.

    Args:
        graded: a .jsonl file as of the command; mappings with a sentence, whether it is correct, and perhaps the
            prompt before it; or a table of pandas with such columns.
        model, tokenizer: as of Inspector, which must not be open on it.
        scores: of uncertainty, by family or name, such as 'all' or 'Perplexity,SemanticEntropy'.
        samples, sample_tokens: continuations that are drawn for the family `samples`, and tokens of each at most.
        members: of an ensemble, for dropout and weight-noise.
        vectors: files or Vectors; each is a member of the ensemble of the family `vectors`, beside one under none.
        seed: of what is drawn.
        limit: sentences, or questions, that are graded at most.
        bos: whether a text begins with the token that begins texts: 'tokenizer', 'with' or 'without'.

    Raises UserError.

    Example:
        >>> graded = [{"prompt": "2 + 2 =", "sentence": "4", "correct": True},
        ...           {"prompt": "2 + 2 =", "sentence": "cheese", "correct": False}]
        >>> grading = run_grading(graded, scores="Perplexity")
        >>> grading.auroc, grading.scores["Perplexity"].shape
        ({'Perplexity': 1.0}, (2,))
    """
    if bos not in get_args(Bos):
        raise UserError(f"bos is {bos!r} but must be one of {', '.join(get_args(Bos))}")
    numbers = dict(samples=plain(samples), sample_tokens=plain(sample_tokens), members=plain(members))
    try:
        settings = msgspec.convert(
            {"names": score_names(text_of(scores, "scores")), **numbers, "seed": whole(seed, "seed", 0)},
            ScoreSettings,
        )
    except msgspec.ValidationError as mistake:
        raise UserError(f"{', '.join(numbers)}: {mistake}") from None
    most = None if limit is None else whole(limit, "limit", 2)
    wanted = [one if isinstance(one, Vector) else Vector(Path(one).stem, str(plain(one))) for one in vectors]
    given = _given(graded)
    loaded = model_of(model, tokenizer, {}, lambda progress: None)
    with alone(loaded):
        return Grading(graded_run(loaded, given, settings, wanted, most, bos))


def _given(graded: Any) -> GradedSet:
    if isinstance(graded, str | PathLike):
        return graded_set(str(plain(graded)))
    if callable(to_dict := getattr(graded, "to_dict", None)):  # a table of pandas
        graded = to_dict("records")
    if not isinstance(graded, Iterable) or isinstance(graded, bytes | Mapping):
        raise UserError(f"a {type(graded).__name__} is no graded set: give a file, mappings or a table")
    return graded_rows(
        {name: plain(value) for name, value in row.items()} if isinstance(row, Mapping) else row for row in graded
    )
