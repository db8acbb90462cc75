"""A graded set as results to be looked at: a rejection curve for each score, and sentences that open."""

from __future__ import annotations

import numpy as np

from tui_entropy.analysis.grading.grade import GradedRun, GradeReport, Item, ScoreGrade
from tui_entropy.analysis.grading.measures import Rejection
from tui_entropy.analysis.text_windows import text_result
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.corpus.results import (
    Curve,
    CurveChart,
    Listing,
    Opening,
    Results,
    Row,
    SteeredModel,
)
from tui_entropy.records.probes.panels import Column

MAX_LISTED = 300
"""Sentences of a score that are listed, those that were wrong and most certain first."""
MAX_POINTS = 400
"""Of a curve."""
SCORES = (
    Column("score"), Column("n"), Column("AUROC"), Column("error"), Column("PRR"), Column("area", "share"),
    Column("random", "share"), Column("perfect", "share"),
)  # fmt: skip
NOTE = (
    "AUROC: in how many pairs of a wrong and a right one the wrong one has the higher score, and its standard error; "
    "0.5 tells nothing. Area: the mean of what is right while the least certain are taken away; PRR: its way from "
    "a random order to a perfect one."
)


def results_of(graded: GradedRun, model: SteeredModel, tokenizer: Tokenizer) -> Results:
    report = graded.report
    texts = [passage for item in graded.items for passage in passages_of(item)]
    firsts = np.cumsum([0, *(len(passages_of(item)) for item in graded.items)]).tolist()
    charts = tuple(_chart(one.name, graded.curves[one.name]) for one in report.scores if one.name in graded.curves)
    places = {chart.title: at for at, chart in enumerate(charts)}
    rows = tuple(
        Row(
            (one.name, one.n, one.auroc, one.auroc_error, one.prr, one.area, one.random_area, one.perfect_area),
            _items(one, graded, firsts),
            chart=places.get(_title(one.name)),
        )
        for one in report.scores
        if one.n
    )
    one_of = report.of.removesuffix("s")
    wrong = f"{report.n_wrong} of {report.n} {report.of} wrong"
    return Results(
        f"uncertainty of {report.model}, {wrong}",
        (model,),
        tuple(
            text_result(f"{one_of} {np.searchsorted(firsts, at, side='right')}", one.ids, tokenizer)
            for at, one in enumerate(texts)
        ),
        charts,
        Listing(f"which score tells wrong from right: {wrong}", SCORES, rows, f"{_alike(report)}{NOTE}"),
    )


def _alike(report: GradeReport) -> str:
    if 0 < report.n_wrong < report.n:
        return ""
    return f"All are {'wrong' if report.n_wrong else 'right'}, so there is nothing to tell apart. "


def passages_of(item: Item) -> tuple[Passage, ...]:
    """What can be opened of it: each answer of a question, else the sentence."""
    return tuple(one.passage for one in item.answers) or (item.scored.passage,)


def _items(one: ScoreGrade, graded: GradedRun, firsts: list[int]) -> Listing:
    values = graded.values[one.name]
    known = np.flatnonzero(np.isfinite(values)).tolist()
    known.sort(key=lambda at: (graded.items[at].correct, values[at]))
    rows = tuple(_row(graded.items[at], float(values[at]), firsts[at]) for at in known[:MAX_LISTED])
    first = f"The first {len(rows)} of {len(known)}. " if len(known) > len(rows) else ""
    columns = (Column("right"), Column("score", one.unit), Column("sentence"), Column("behind"))
    return Listing(f"{one.name}, {graded.report.of}", columns, rows, f"{first}Wrong ones first, by how sure it was.")


def _row(item: Item, value: float, first: int) -> Row:
    cells = (item.correct, value, item.sentence.strip(), item.prompt.strip())
    if not item.answers:
        return Row(cells, opens=(Opening(first, _begin(item.scored.passage)),))
    answers = tuple(
        Row(
            (answer.text.strip(), n == item.right, answer.logprob),
            opens=(Opening(first + n, _begin(answer.passage)),),
        )
        for n, answer in enumerate(item.answers)
    )
    columns = Column("answer"), Column("right"), Column("ln p", "nats")
    return Row(cells, Listing("answers", columns, answers))


def _begin(passage: Passage) -> int:
    return passage.positions[0] + 1


def _title(name: str) -> str:
    return f"rejection by {name}"


def _chart(name: str, found: Rejection) -> CurveChart:
    """Accuracy of what is kept, the most certain, over the share of it."""
    n = len(found.accuracy)
    kept = np.unique(np.linspace(1, n, min(n, MAX_POINTS)).round().astype(int))
    x = tuple((kept / n).tolist())
    perfect = np.minimum(found.random * n / kept, 1.0)
    return CurveChart(
        _title(name),
        "share kept",
        Column("right", "share"),
        (
            Curve(name, x, tuple(found.accuracy[kept - 1].tolist()), 1),
            Curve("random order", (x[0], 1.0), (found.random, found.random), 2),
            Curve("perfect order", x, tuple(perfect.tolist()), 2),
        ),
    )
