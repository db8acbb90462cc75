"""Confidence over questions of several answers: each is scored by its likelihood, whole and by the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from tui_entropy.analysis.calibration.choices import Option, Question
from tui_entropy.analysis.calibration.measures import Floats
from tui_entropy.analysis.calibration.pairs import Pairs, Place, of_logits
from tui_entropy.analysis.calibration.summary import (
    TRUE_LABEL,
    Calibration,
    CalibrationReport,
    TemperatureSummary,
    calibration,
)
from tui_entropy.core.errors import UserError
from tui_entropy.engine.calibration.temperature import fit_temperature
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import Passage, left_to_right
from tui_entropy.engine.scoring.scorer import Wanted, score
from tui_entropy.engine.scoring.texts import Bos, encoded
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import Progress

LIKELIHOOD = (BY_NAME["surprisal"],)


class JudgedQuestions(NamedTuple):
    report: CalibrationReport
    pairs: dict[str, Pairs]
    """Of each set of the report, by its name; a place is one of the text of the answer that was held for right."""
    token_ids: list[list[int]]
    """Of each option of each question, in order."""
    options: list[Option]
    logprobs: list[list[float]]
    """Of each question the ln p of its answers, nats."""
    firsts: list[int]
    """Of each option, where its answer begins."""


def judge_questions(
    loaded: Loaded,
    questions: Sequence[Question],
    n_bins: int,
    bos: Bos = "tokenizer",
    left_out: Iterable[str] = (),
    progress: Callable[[Progress], None] = lambda progress: None,
) -> JudgedQuestions:
    """Score every answer of every question. Raises UserError for a question that is longer than the model reads."""
    options = [option for question in questions for option in question.options]
    passages = [answer_passage(loaded, option, bos) for option in options]
    found: list[float] = []
    n_all = sum(map(len, passages))
    n_done = 0
    scored = score(loaded, passages, Wanted(LIKELIHOOD), together=together_of(loaded))
    for passage, its in zip(passages, scored, strict=True):
        found.append(-float(its.scores.double().sum()))
        n_done += len(passage)
        progress(Progress("reading answers", n_done, n_all, "tokens"))
    whole = list(by_question(found, questions))
    by_byte = list(
        by_question([one / len(o.answer.encode()) for one, o in zip(found, options, strict=True)], questions)
    )
    sets: list[Calibration] = []
    pairs: dict[str, Pairs] = {}
    temperatures: list[TemperatureSummary] = []
    for what, logprobs in (("likelihood", whole), ("likelihood a byte", by_byte)):
        logits, right = _table(logprobs), [question.right for question in questions]
        firsts = np.cumsum([0, *(len(question.options) for question in questions)])
        places = [Place(at, 0, 0) for at in range(len(questions))]
        named = {what: of_logits(logits, right, places)}
        if len(questions) > 1:
            named |= _scaled(what, logits, right, places, temperatures)
        for name, judged in named.items():
            sets.append(calibration(name, judged, n_bins, "question"))
            pairs[name] = _placed(judged, firsts, passages)
    true = pairs["likelihood"].of_true_label
    sets.append(calibration("right answer", true, n_bins, "question", TRUE_LABEL))
    pairs["right answer"] = true
    report = CalibrationReport(
        loaded.card.name, "questions", n_bins, tuple(sets), tuple(temperatures), tuple(left_out)
    )
    begins = [passage.positions[0] + 1 for passage in passages]
    return JudgedQuestions(report, pairs, [list(one.ids) for one in passages], options, whole, begins)


def answer_passage(loaded: Loaded, option: Option, bos: Bos) -> Passage:
    """The answer behind its prompt; a token that both have a part in counts for the answer."""
    prompt, whole = (encoded(loaded.tokenizer, text, bos) for text in (option.prompt, option.prompt + option.answer))
    same = next(
        (n for n, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), min(len(prompt), len(whole))
    )
    first = min(max(same, 1), len(whole) - 1)
    if len(whole) < 2:
        raise UserError("a question and its answer are one token together, and nothing comes before the first")
    if len(whole) > loaded.card.context:
        raise UserError(
            f"a question has {len(whole)} tokens with an answer and {loaded.card.name} reads at most "
            f"{loaded.card.context}: leave it out"
        )
    return left_to_right(whole, first)


def by_question(values: Sequence[float], questions: Sequence[Question]) -> Iterator[list[float]]:
    rest = iter(values)
    for question in questions:
        yield [next(rest) for _ in question.options]


def _table(logprobs: Sequence[Sequence[float]]) -> Floats:
    """(n, most answers); -inf where a question has fewer."""
    table = np.full((len(logprobs), max(map(len, logprobs))), -np.inf)
    for row, its in zip(table, logprobs, strict=True):
        row[: len(its)] = its
    return table


def _scaled(
    what: str, logits: Floats, right: Sequence[int], places: Sequence[Place], temperatures: list[TemperatureSummary]
) -> dict[str, Pairs]:
    """The other half as it is, and under the temperature of every other question."""
    came = torch.tensor(right)
    fit = fit_temperature(lambda: [(torch.from_numpy(logits[::2]), came[::2])])
    before = of_logits(logits[1::2], right[1::2], places[1::2])
    after = of_logits(logits[1::2], right[1::2], places[1::2], fit.temperature)
    temperatures.append(
        TemperatureSummary(
            fit.temperature,
            len(right[::2]),
            len(after),
            float(before.surprisal.mean()),
            float(after.surprisal.mean()),
        )
    )
    return {f"{what}, other half": before, f"{what}, T {fit.temperature:.3f}": after}


def _placed(pairs: Pairs, firsts: np.ndarray, passages: Sequence[Passage]) -> Pairs:
    """With the places of the answers that were held for right, in the texts of all options."""
    places = []
    for place in pairs.places:
        option = int(firsts[place.text]) + place.said
        places.append(Place(option, passages[option].positions[0] + 1, place.said))
    return Pairs(pairs.confidence, pairs.correct, pairs.surprisal, pairs.brier, pairs.groups, places)
