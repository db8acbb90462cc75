"""A calibration as results to be looked at: a reliability diagram for each set, its bins, and their tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tui_entropy.analysis.calibration.choices import Question
from tui_entropy.analysis.calibration.measures import MIN_PAIRS, bin_of
from tui_entropy.analysis.calibration.pairs import Pairs
from tui_entropy.analysis.calibration.questions import JudgedQuestions
from tui_entropy.analysis.calibration.summary import BinSummary, Calibration, CalibrationReport
from tui_entropy.analysis.calibration.texts import JudgedTexts
from tui_entropy.analysis.text_windows import spelled, window_results
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.corpus.results import (
    Curve,
    CurveChart,
    Listing,
    Opening,
    Results,
    Row,
    SteeredModel,
    TextResult,
)
from tui_entropy.records.probes.panels import Cell, Column

MAX_LISTED = 300
"""Pairs of a bin that are listed, those that were wrong and surest first."""
RowOf = Callable[[Pairs, int], Row]

SETS = (
    Column("set"), Column("n"), Column("ECE", "share"), Column("sure", "share"), Column("right", "share"),
    Column("gap", "share"), Column("MCE", "share"), Column("adaptive", "share"), Column("Brier"),
    Column("NLL", "nats"),
)  # fmt: skip
BINS = Column("sure to"), Column("n"), Column("mean", "share"), Column("right", "share"), Column("gap", "share")


def results_of_texts(judged: JudgedTexts, names: Sequence[str], model: SteeredModel, tokenizer: Tokenizer) -> Results:
    """names: of the texts."""

    def row(pairs: Pairs, at: int) -> Row:
        place = pairs.places[at]
        window = judged.windows[place.text]
        cells: tuple[Cell, ...] = (
            bool(pairs.correct[at]), float(pairs.confidence[at]), spelled((place.said,), tokenizer),
            spelled((window.ids[place.position],), tokenizer), spelled(window.before(place.position), tokenizer),
        )  # fmt: skip
        return Row(cells, opens=(Opening(place.text, place.position),))

    columns = Column("right"), Column("sure", "share"), Column("it said"), Column("there is"), Column("behind")
    texts = window_results(judged.windows, names, tokenizer)
    return _results(judged.report, judged.pairs, model, texts, columns, row)


def results_of_questions(
    judged: JudgedQuestions, questions: Sequence[Question], model: SteeredModel, tokenizer: Tokenizer
) -> Results:
    firsts = np.cumsum([0, *(len(question.options) for question in questions)])
    of_option = np.searchsorted(firsts, np.arange(firsts[-1]), side="right") - 1

    def row(pairs: Pairs, at: int) -> Row:
        place = pairs.places[at]
        number = int(of_option[place.text])
        question = questions[number]
        said, right = question.options[place.said], question.options[question.right]
        cells: tuple[Cell, ...] = (
            bool(pairs.correct[at]), float(pairs.confidence[at]), said.answer.strip(), right.answer.strip(),
            said.prompt.strip(),
        )  # fmt: skip
        answers = tuple(
            Row(
                (option.answer.strip(), n == question.right, judged.logprobs[number][n]),
                opens=(Opening(int(firsts[number]) + n, judged.firsts[int(firsts[number]) + n]),),
            )
            for n, option in enumerate(question.options)
        )
        inside = Listing("answers", (Column("answer"), Column("right"), Column("ln p", "nats")), answers)
        return Row(cells, inside)

    columns = (
        Column("right"),
        Column("sure", "share"),
        Column("it held for right"),
        Column("right is"),
        Column("asked"),
    )
    texts = tuple(
        TextResult(f"question {of_option[at] + 1}", tuple(its), option.prompt + option.answer)
        for at, (its, option) in enumerate(zip(judged.token_ids, judged.options, strict=True))
    )
    return _results(judged.report, judged.pairs, model, texts, columns, row)


def _results(
    report: CalibrationReport,
    pairs: Mapping[str, Pairs],
    model: SteeredModel,
    texts: tuple[TextResult, ...],
    columns: tuple[Column, ...],
    row: RowOf,
) -> Results:
    charts = tuple(map(reliability, report.sets))
    rows = tuple(
        Row(_cells(one), _bins(one, pairs[one.name], report, columns, row), chart=at)
        for at, one in enumerate(report.sets)
    )
    notes = [
        f"T {each.temperature:.3f} was fitted on {each.n_fitted} {report.of} and tried on {each.n_tried} others"
        f"{', so few that it says next to nothing' if min(each.n_fitted, each.n_tried) < MIN_PAIRS else ''}."
        for each in report.temperatures
    ]
    if any(one.ece is None for one in report.sets):
        notes.append(
            f"A ? stands for an error over fewer than {MIN_PAIRS} {report.of}, which is large for any model."
        )
    note = " ".join(notes)
    listing = Listing(f"calibration over {report.of}", SETS, rows, note)
    return Results(f"calibration of {report.model}", (model,), texts, charts, listing)


def _cells(one: Calibration) -> tuple[Cell, ...]:
    return (
        one.name, one.n, one.ece, one.confidence, one.accuracy, one.gap, one.mce, one.adaptive_ece, one.brier,
        one.nll_nats,
    )  # fmt: skip


def _bins(
    one: Calibration, pairs: Pairs, report: CalibrationReport, columns: tuple[Column, ...], row: RowOf
) -> Listing:
    at = bin_of(pairs.confidence, report.n_bins)
    rows = tuple(
        Row(
            (_range(each), each.n, each.confidence, each.accuracy, _gap(each)),
            _pairs(f"sure to {_range(each)}", pairs, np.flatnonzero(at == n).tolist(), columns, row),
        )
        for n, each in enumerate(one.bins)
    )
    interval = ""
    if one.ece_interval:
        low, high = one.ece_interval
        interval = f"95 % of ECE, {one.drawn} drawn anew: {100 * low:.2f} to {100 * high:.2f} %. "
    few = "" if one.ece is not None else f"With {one.n} {report.of} there are too few for a calibration error. "
    return Listing(f"{one.name}, bin by bin", BINS, rows, f"{interval}{few}{one.note}".strip())


def _pairs(title: str, pairs: Pairs, places: list[int], columns: tuple[Column, ...], row: RowOf) -> Listing:
    places.sort(key=lambda at: (bool(pairs.correct[at]), -pairs.confidence[at]))
    rows = tuple(row(pairs, at) for at in places[:MAX_LISTED])
    left = len(places) - len(rows)
    note = f"The first {len(rows)} of {len(places)}: those that were wrong, the surest first." if left > 0 else ""
    return Listing(title, columns, rows, note)


def _range(each: BinSummary) -> str:
    return f"{100 * each.low:.0f}-{100 * each.high:.0f} %"


def _gap(each: BinSummary) -> float | None:
    return None if each.confidence is None or each.accuracy is None else each.confidence - each.accuracy


def reliability(one: Calibration) -> CurveChart:
    """Accuracy over confidence. On the diagonal a model is right as often as it is sure; below it is too sure."""
    known = [(each.confidence, each.accuracy) for each in one.bins if each.confidence is not None]
    return CurveChart(
        f"reliability, {one.name}",
        "confidence",
        Column("accuracy", "share"),
        (
            Curve("accuracy", tuple(x for x, _ in known), tuple(y for _, y in known), 1),
            Curve("as sure as right", (0.0, 1.0), (0.0, 1.0), 2),
        ),
    )
