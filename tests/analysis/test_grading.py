"""How well scores tell wrong from right: hand-computed cases, laws, graded files, and a tiny model."""

import gzip
import json
import math
from itertools import product

import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.analysis.grading.grade import grade
from tui_entropy.analysis.grading.graded import GradedSentence, GradedSet, graded_set
from tui_entropy.analysis.grading.measures import auroc, rejection
from tui_entropy.analysis.grading.results import results_of
from tui_entropy.analysis.results_file import read_results, write_results
from tui_entropy.core.errors import UserError
from tui_entropy.records.corpus.results import SteeredModel
from tui_entropy.records.corpus.uncertainty import ScoreSettings, score_names
from tui_entropy.records.model import ModelSpec

SETTINGS = ScoreSettings(score_names("tokens,prompt,attention"))
LINES = [
    {"prompt": "The sky is", "sentence": "blue today", "correct": True},
    {"prompt": "The sky is ", "answer": "green", "correct": False},
    {"text": "Grass is green", "correct": True},
]


def arrays(scores, wrong):
    return np.array(scores, dtype=float), np.array(wrong, dtype=bool)


# --- Measures -----------------------------------------------------------------------------------------------------


def test_auroc_by_hand():
    """Wrong have 3 and 1, right have 2, 1 and 0: of six pairs four are in order and one ties."""
    found = auroc(*arrays([3, 1, 2, 1, 0], [1, 1, 0, 0, 0]))
    assert found.value == pytest.approx(4.5 / 6)
    below, above = [1, 0.5], [0.5, 0.75, 1]  # of each wrong one, and of each right one
    assert found.error == pytest.approx(math.sqrt(np.var(below, ddof=1) / 2 + np.var(above, ddof=1) / 3))
    assert auroc(*arrays([2, 3, 0, 1], [1, 1, 0, 0])) == (1.0, 0.0)
    assert auroc(*arrays([0, 1, 2, 3], [1, 1, 0, 0])).value == 0
    assert auroc(*arrays([1, 1, 1], [1, 0, 0])) == (0.5, None)
    assert auroc(*arrays([1, 2], [1, 1])) is None and auroc(*arrays([], [])) is None


graded = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30)


@given(graded)
def test_auroc_is_the_share_of_pairs_that_are_in_order(pairs):
    scores, wrong = arrays(*zip(*pairs, strict=True))
    found = auroc(scores, wrong)
    both = list(product(scores[wrong], scores[~wrong]))
    if not both:
        assert found is None
        return
    assert found.value == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a, b in both]))
    assert auroc(np.exp(scores), wrong).value == pytest.approx(found.value)  # an order is all that counts
    assert auroc(-scores, wrong).value == pytest.approx(1 - found.value)
    if found.error is not None:
        assert auroc(-scores, ~wrong).error == pytest.approx(found.error)


def test_the_standard_error_is_that_of_draws():
    rng = np.random.default_rng(0)
    drawn = [
        auroc(np.concatenate([rng.normal(1, 1, 40), rng.normal(0, 1, 60)]), np.arange(100) < 40) for _ in range(400)
    ]
    assert np.std([one.value for one in drawn]) == pytest.approx(np.mean([one.error for one in drawn]), rel=0.12)


def test_a_rejection_curve_by_hand():
    """Right, wrong, right, from the most certain on."""
    found = rejection(*arrays([0.1, 0.2, 0.3], [0, 1, 0]))
    np.testing.assert_allclose(found.accuracy, [1, 1 / 2, 2 / 3])
    assert found[1:] == pytest.approx(((1 + 1 / 2 + 2 / 3) / 3, 2 / 3, (1 + 1 + 2 / 3) / 3))
    assert found.ratio == pytest.approx((13 / 18 - 12 / 18) / (16 / 18 - 12 / 18))
    assert rejection(*arrays([1, 2, 3], [0, 0, 1])).ratio == pytest.approx(1)
    assert rejection(*arrays([1, 2], [0, 0])).ratio is None


@given(graded)
def test_no_order_is_better_than_a_perfect_one_and_ties_have_none(pairs):
    scores, wrong = arrays(*zip(*pairs, strict=True))
    found = rejection(scores, wrong)
    assert found.accuracy[-1] == pytest.approx((~wrong).mean()) == pytest.approx(found.random)
    assert found.area <= found.perfect + 1e-9
    order = np.random.default_rng(len(pairs)).permutation(len(pairs))
    np.testing.assert_allclose(rejection(scores[order], wrong[order]).accuracy, found.accuracy, atol=1e-12)
    assert rejection(np.zeros(len(wrong)), wrong).area == pytest.approx(found.random)
    assert rejection(wrong.astype(float), wrong).area == pytest.approx(found.perfect)


# --- Files --------------------------------------------------------------------------------------------------------


def written(path, lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


def test_graded_lines_are_read_and_those_that_are_none_named(tmp_path):
    more = ["", "no json", "[1]", {"correct": 1, "text": "x"}, {"correct": True}, {"text": " ", "correct": True}]
    more.append(r'{"text": "\ud800", "correct": true}')
    found = graded_set(written(tmp_path / "g.jsonl", [*LINES, *more]))
    assert found.sentences == [
        GradedSentence("The sky is", " blue today", True), GradedSentence("The sky is ", "green", False),
        GradedSentence("", "Grass is green", True),
    ]  # fmt: skip
    assert [line.split(": ", 1)[1] for line in found.left_out] == [
        "it is no JSON", "it is no JSON object", "its 'correct' is neither true nor false",
        "it has no text as one of sentence, answer, text", "its sentence is empty", "it is no UTF-8",
    ]  # fmt: skip
    assert "line 5 of" in found.left_out[0]
    zipped = tmp_path / "g.jsonl.gz"
    zipped.write_bytes(gzip.compress(json.dumps(LINES[0]).encode()))
    assert graded_set(str(zipped)).sentences == found.sentences[:1]


def test_questions_are_graded_too_and_nothing_is_refused(tmp_path):
    asked = {"question": "Which?", "choices": ["a", "b"], "answer": 1}
    found = graded_set(written(tmp_path / "q.jsonl", [asked, "no"]))
    assert not found.sentences and len(found.questions) == 1 and len(found.left_out) == 1
    for lines in ([], ["x"], [{"a": 1}]):
        with pytest.raises(UserError, match="holds nothing that is graded"):
            graded_set(written(tmp_path / "none.jsonl", lines))
    with pytest.raises(UserError, match="cannot be read"):
        graded_set(str(tmp_path))


# --- Over a model -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded():
    return small.endless(small.loaded())


def test_sentences_are_graded_behind_their_prompts(loaded, tmp_path):
    given_set = graded_set(written(tmp_path / "g.jsonl", LINES))
    found = grade(loaded, given_set, SETTINGS)
    assert (found.report.n, found.report.n_wrong, found.report.of) == (3, 1, "sentences")
    for item, line in zip(found.items, given_set.sentences, strict=True):
        passage = item.scored.passage
        spelled = line.sentence.replace(" ", "")  # of which this tokenizer has no token
        assert loaded.tokenizer.hf_tokenizer.decode(list(passage.targets)) == spelled[0 if line.prompt else 1 :]
        assert item.scored.n_prompt == len(line.prompt.replace(" ", ""))
    by_name = {one.name: one for one in found.report.scores}
    assert by_name["MeanPointwiseMutualInformation"].n == 2 and by_name["Perplexity"].n == 3
    order = [one.auroc for one in found.report.scores]
    assert order == sorted(order, reverse=True)
    for name, one in by_name.items():
        values, known = found.values[name], np.isfinite(found.values[name])
        wrong = np.array([not item.correct for item in found.items])
        assert one.auroc == auroc(values[known], wrong[known]).value
    shorter = grade(loaded, given_set, SETTINGS, limit=2)
    assert shorter.values["Perplexity"].tolist() == pytest.approx(found.values["Perplexity"][:2].tolist(), abs=1e-5)
    alike = results_of(grade(loaded, given_set, SETTINGS, limit=1), SteeredModel(ModelSpec("tiny")), loaded.tokenizer)
    assert alike.listing.note.startswith("All are right, so there is nothing to tell apart.")
    with pytest.raises(UserError, match="nothing to grade"):
        grade(loaded, GradedSet([GradedSentence("", "x" * 9999, True)], [], []), SETTINGS)


def test_of_a_question_the_most_likely_answer_is_graded(loaded, tmp_path):
    asked = [
        {"question": "Which one?", "choices": ["abc", "xyzzy", "q"], "answer": 1},
        {"context": "So it", "choices": ["is", "was there"], "answer": 0},
    ]
    found = grade(loaded, graded_set(written(tmp_path / "q.jsonl", asked)), SETTINGS)
    for item, line in zip(found.items, asked, strict=True):
        logprobs = [answer.logprob for answer in item.answers]
        best = int(np.argmax(logprobs))
        assert item.sentence.strip() == line["choices"][best] and item.correct == (best == line["answer"])
    said = found.values["MaximumSequenceProbability"]
    assert said.tolist() == pytest.approx(
        [-max(one.logprob for one in item.answers) for item in found.items], abs=1e-4
    )
    shown = results_of(found, SteeredModel(ModelSpec("tiny")), loaded.tokenizer)
    write_results(shown, tmp_path / "kept.json")
    assert read_results(tmp_path / "kept.json") == shown
    for score in shown.listing.rows:
        for row in score.inside.rows:
            assert [answer.cells[0] for answer in row.inside.rows] in [line["choices"] for line in asked]
            for answer in row.inside.rows:
                (opening,) = answer.opens
                text = shown.texts[opening.text]
                spelled = answer.cells[0].replace(" ", "")
                assert text.text.endswith(spelled)
                assert opening.position == len(text.token_ids) - len(spelled)
        name = score.cells[0]
        assert shown.charts[score.chart].curves[0].name == name
