"""A calibration from files to a report and results, told on stderr while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tui_entropy.analysis.calibration.choices import questions_in
from tui_entropy.analysis.calibration.questions import judge_questions
from tui_entropy.analysis.calibration.results import results_of_questions, results_of_texts
from tui_entropy.analysis.calibration.texts import judge_texts
from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.scoring.texts import Bos
from tui_entropy.records.corpus.results import Results, SteeredModel
from tui_entropy.records.model import ModelSpec


def calibrate_texts(
    spec: ModelSpec, names: Sequence[str], texts: Sequence[str], n_bins: int, limit: int | None, bos: Bos
) -> tuple[Any, Results]:
    """names: of the texts. Returns the report for programs, and results for people. Raises UserError."""
    narrator = Narrator()
    loaded = load(spec, narrator.progress)
    judged = judge_texts(loaded, texts, n_bins, bos, limit, narrator.progress)
    narrator.done(f"{judged.report.sets[0].n} tokens judged")
    stems = ["stdin" if name == "-" else Path(name).name for name in names]
    return judged.report, results_of_texts(judged, stems, SteeredModel(spec), loaded.tokenizer)


def calibrate_questions(spec: ModelSpec, name: str, n_bins: int, limit: int | None, bos: Bos) -> tuple[Any, Results]:
    """The same of a file of questions."""
    narrator = Narrator()
    found = questions_in(name)
    for sentence in found.left_out:
        narrator.done(sentence)
    loaded = load(spec, narrator.progress)
    questions = found.questions[:limit]
    judged = judge_questions(loaded, questions, n_bins, bos, found.left_out, narrator.progress)
    narrator.done(f"{len(questions)} questions judged")
    return judged.report, results_of_questions(judged, questions, SteeredModel(spec), loaded.tokenizer)
