"""A graded set from a file to a report and results, told on stderr while it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.grading.grade import GradedRun, GradeReport, Tell, grade
from tui_entropy.analysis.grading.graded import GradedSet, graded_set
from tui_entropy.analysis.grading.results import results_of
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.scorer import OffsetsOf
from tui_entropy.engine.scoring.texts import Bos
from tui_entropy.engine.steering.fixed import fixed_offsets
from tui_entropy.engine.steering.plan import Offsets
from tui_entropy.records.corpus.results import Results, SteeredModel
from tui_entropy.records.corpus.uncertainty import ScoreSettings
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.settings import Vector


def grade_file(
    spec: ModelSpec,
    name: str,
    settings: ScoreSettings,
    vectors: Sequence[Vector],
    limit: int | None,
    bos: Bos,
) -> tuple[GradeReport, Results]:
    """Returns the report for programs, and results for people. Raises UserError."""
    narrator = Narrator()
    given = graded_set(name)
    loaded = load(spec, narrator.progress)
    found = graded_run(loaded, given, settings, vectors, limit, bos, narrator.progress)
    for sentence in found.report.left_out:
        narrator.done(sentence)
    if without := [one.name for one in found.report.scores if not one.n]:
        narrator.done(f"there is no {', '.join(without)}: docs/analyze.md tells what each needs")
    narrator.done(f"{found.report.n} {found.report.of} graded")
    return found.report, results_of(found, SteeredModel(spec), loaded.tokenizer)


def graded_run(
    loaded: Loaded,
    given: GradedSet,
    settings: ScoreSettings,
    vectors: Sequence[Vector],
    limit: int | None,
    bos: Bos,
    progress: Tell = lambda progress: None,
) -> GradedRun:
    """A graded set under a model. vectors: each is a member of that ensemble, beside one under none. Raises
    UserError."""
    alone = [fixed_offsets(loaded, [vector]) for vector in vectors]
    members: list[OffsetsOf | None] = [None, *map(_of_every, alone)] if alone else []
    return grade(loaded, given, settings, limit, bos, members, progress)


def _of_every(offsets: Offsets) -> OffsetsOf:
    def of(passage: Passage) -> Offsets:
        return offsets

    return of
