"""A graded set under a model: the uncertainty scores of its sentences, and how well each tells wrong from right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from tui_entropy.analysis.calibration.choices import Option, Question
from tui_entropy.analysis.calibration.questions import LIKELIHOOD, answer_passage, by_question
from tui_entropy.analysis.grading.graded import GradedSentence, GradedSet
from tui_entropy.analysis.grading.measures import Flags, Floats, Rejection, auroc, rejection
from tui_entropy.core.errors import UserError
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.scorer import OffsetsOf, Wanted, score
from tui_entropy.engine.scoring.texts import Bos, passage_of
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.engine.uncertainty.sentences import ScoredSentence, uncertainty_scores
from tui_entropy.records.corpus.uncertainty import BY_NAME, ScoreSettings
from tui_entropy.records.events import Progress

POOL = 16
"""Sentences that are scored together."""
Tell = Callable[[Progress], None]


class Answer(NamedTuple):
    """One of the answers of a question."""

    text: str
    passage: Passage
    logprob: float
    """Nats, behind the question."""


class Item(NamedTuple):
    """A sentence that is right or wrong."""

    prompt: str
    sentence: str
    correct: bool
    scored: ScoredSentence
    answers: tuple[Answer, ...] = ()
    """Of a question, all of them."""
    right: int = 0
    """Place of the right one."""


class ScoreGrade(Struct, frozen=True):
    """How well a score tells wrong from right."""

    name: str
    unit: str
    n: int
    """Sentences that have it."""
    auroc: float | None
    """Of "this is wrong"; None where all are right, or all wrong."""
    auroc_error: float | None
    """Its standard error."""
    area: float | None
    """The mean accuracy of what is kept while the least certain are taken away; None where nothing has the score."""
    random_area: float | None
    perfect_area: float | None
    prr: float | None
    """(area - random) / (perfect - random)."""


class GradeReport(Struct, frozen=True):
    model: str
    of: str
    """'sentences', or 'questions'."""
    n: int
    n_wrong: int
    scores: tuple[ScoreGrade, ...]
    """Those that tell best first."""
    left_out: tuple[str, ...] = ()
    """Sentences on lines that could not be read or scored."""


@dataclass(frozen=True)
class GradedRun:
    report: GradeReport
    items: list[Item]
    values: dict[str, Floats]
    """(n items,) of each score; NaN is unknown."""
    curves: dict[str, Rejection]
    """Of each score that some item has."""


def grade(
    loaded: Loaded,
    given: GradedSet,
    settings: ScoreSettings,
    limit: int | None = None,
    bos: Bos = "tokenizer",
    vectors: Sequence[OffsetsOf | None] = (),
    progress: Tell = lambda progress: None,
) -> GradedRun:
    """Score a graded set. limit: of sentences, or questions. vectors: what steers the members of that ensemble.
    Raises UserError where nothing can be scored, and NotFinite."""
    left_out = list(given.left_out)
    if given.questions:
        items = _questions(loaded, given.questions[:limit], bos, progress)
    else:
        items = _sentences(loaded, given.sentences[:limit], bos, left_out)
    if not items:
        raise UserError(f"there is nothing to grade ({left_out[0] if left_out else 'no line'}): give other sentences")
    rows: list[dict[str, float | None]] = []
    for at in range(0, len(items), POOL):
        progress(Progress("scoring", at, len(items), "sentences"))
        some = [one.scored for one in items[at : at + POOL]]
        rows += uncertainty_scores(loaded, some, settings, vectors=vectors)
    progress(Progress("scoring", len(items), len(items), "sentences"))
    values = {
        name: np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
        for name in settings.names
    }
    wrong = np.array([not one.correct for one in items])
    curves = {
        name: rejection(its[known], wrong[known]) for name, its in values.items() if (known := np.isfinite(its)).any()
    }
    grades = [_grade(name, its, wrong, curves.get(name)) for name, its in values.items()]
    grades.sort(key=lambda one: -1.0 if one.auroc is None else one.auroc, reverse=True)
    report = GradeReport(
        loaded.card.name,
        "questions" if given.questions else "sentences",
        len(items),
        int(wrong.sum()),
        tuple(grades),
        tuple(left_out),
    )
    return GradedRun(report, items, values, curves)


def _grade(name: str, values: Floats, wrong: Flags, curve: Rejection | None) -> ScoreGrade:
    known = np.isfinite(values)
    found = auroc(values[known], wrong[known])
    return ScoreGrade(
        name,
        BY_NAME[name].unit,
        int(known.sum()),
        found and found.value,
        found and found.error,
        curve and curve.area,
        curve and curve.random,
        curve and curve.perfect,
        curve and curve.ratio,
    )


def _sentences(loaded: Loaded, sentences: Sequence[GradedSentence], bos: Bos, left_out: list[str]) -> list[Item]:
    items = []
    for number, one in enumerate(sentences, 1):
        try:
            scored = _scored(loaded, one, bos)
        except UserError as reason:
            left_out.append(f"sentence {number} is left out: {reason}")
        else:
            items.append(Item(one.prompt, one.sentence, one.correct, scored))
    return items


def _scored(loaded: Loaded, one: GradedSentence, bos: Bos) -> ScoredSentence:
    if not one.prompt:
        return ScoredSentence(passage_of(loaded, one.sentence, bos))
    passage = answer_passage(loaded, Option(one.prompt, one.sentence), bos)
    return ScoredSentence(passage, passage.positions[0] + 1)


def _questions(loaded: Loaded, questions: Sequence[Question], bos: Bos, progress: Tell) -> list[Item]:
    """Each with the answer that the model holds for most likely."""
    options = [option for question in questions for option in question.options]
    passages = [answer_passage(loaded, option, bos) for option in options]
    logprobs = []
    for at, its in enumerate(score(loaded, passages, Wanted(LIKELIHOOD), together=together_of(loaded)), 1):
        logprobs.append(-float(its.scores.double().sum()))
        progress(Progress("reading answers", at, len(passages), "answers"))
    items, rest = [], iter(zip(options, passages, strict=True))
    for question, each in zip(questions, by_question(logprobs, questions), strict=True):
        answers = tuple(
            Answer(option.answer, passage, logp)
            for logp, (option, passage) in zip(each, (next(rest) for _ in each), strict=True)
        )
        best = int(np.argmax(each))
        scored = ScoredSentence(answers[best].passage, answers[best].passage.positions[0] + 1)
        prompt = question.options[best].prompt
        items.append(Item(prompt, answers[best].text, best == question.right, scored, answers, question.right))
    return items
