"""Calibration of a model over texts and questions, against plain passes of transformers."""

import json

import numpy as np
import pytest
import small
import torch

from tui_entropy.analysis.calibration.choices import Option, Question
from tui_entropy.analysis.calibration.questions import judge_questions
from tui_entropy.analysis.calibration.results import results_of_questions, results_of_texts
from tui_entropy.analysis.calibration.texts import judge_texts
from tui_entropy.analysis.results_file import read_results, write_results
from tui_entropy.analysis.text_windows import WINDOW
from tui_entropy.core.errors import UserError
from tui_entropy.records.corpus.results import SteeredModel
from tui_entropy.records.model import ModelSpec

TEXTS = ["It is the first of two texts, and it goes on for a while. " * 3, "Another one?"]
MODEL = SteeredModel(ModelSpec("tiny"))


@pytest.fixture(scope="module")
def loaded():
    return small.loaded()


@torch.inference_mode()
def plain(loaded, ids, first=1):
    """(n, vocab) ln p of a plain pass, for each token from one of them on."""
    logits = loaded.model(input_ids=torch.tensor([ids])).logits[0].double()
    return logits.log_softmax(-1)[first - 1 : -1].numpy()


def test_tokens_are_judged_as_a_plain_pass_has_them(loaded):
    judged = judge_texts(loaded, TEXTS, 10)
    pairs = judged.pairs["as it is"]
    ids = [loaded.tokenizer.encode(text, None, chat=False) for text in TEXTS]
    logp = np.concatenate([plain(loaded, its) for its in ids])
    came = np.concatenate([its[1:] for its in ids])
    p, at = np.exp(logp), np.arange(len(came))
    np.testing.assert_allclose(pairs.confidence, p.max(1), atol=1e-5)
    assert pairs.correct.tolist() == (p.argmax(1) == came).tolist()
    np.testing.assert_allclose(pairs.surprisal, -logp[at, came], atol=1e-4)
    np.testing.assert_allclose(pairs.brier, np.square(p).sum(1) - 2 * p[at, came] + 1, atol=1e-5)
    assert [place.said for place in pairs.places] == p.argmax(1).tolist()


def test_places_open_the_token_that_was_judged(loaded):
    judged = judge_texts(loaded, ["ab " * WINDOW], 10)
    assert len(judged.windows) > 2
    pairs = judged.pairs["as it is"]
    assert len(pairs) == len(loaded.tokenizer.encode("ab " * WINDOW, None, chat=False)) - 1
    for at in (0, 5, len(pairs) // 2, len(pairs) - 1):
        place = pairs.places[at]
        ids = list(judged.windows[place.text].passage.ids)
        logp = plain(loaded, ids, place.position)[0]
        assert logp.argmax() == place.said and np.exp(logp.max()) == pytest.approx(pairs.confidence[at], abs=1e-5)


def test_a_model_that_is_made_too_sure_is_found_to_be_and_cooled_by_as_much(loaded):
    texts = ["".join(chr(97 + (n * n + k) % 26) for n in range(700)) for k in range(2)]
    head = loaded.architecture.unembedding.weight
    before = judge_texts(loaded, texts, 15).report
    try:
        with torch.no_grad():
            head *= 2
        after = judge_texts(loaded, texts, 15).report
    finally:
        with torch.no_grad():
            head /= 2
    assert after.sets[0].gap > before.sets[0].gap and after.sets[0].ece > before.sets[0].ece
    assert after.temperatures[0].temperature == pytest.approx(2 * before.temperatures[0].temperature, rel=1e-3)
    assert after.temperatures[0].nll_after_nats < after.temperatures[0].nll_before_nats


QUESTIONS = [
    Question((Option("ab", " cd"), Option("ab", " ce f"), Option("ab", " x")), 2),
    Question((Option("zz", "q"), Option("zy", "qq")), 0),
    Question((Option("1 + 1 =", " 2"), Option("1 + 1 =", " 3")), 0),
]


def test_answers_are_scored_as_a_plain_recipe_has_them(loaded):
    """The answer's tokens are those of prompt and answer together, behind those of the prompt."""
    judged = judge_questions(loaded, QUESTIONS, 5)
    for question, found in zip(QUESTIONS, judged.logprobs, strict=True):
        for option, logprob in zip(question.options, found, strict=True):
            prompt, whole = (
                loaded.tokenizer.encode(text, None, chat=False)
                for text in (option.prompt, option.prompt + option.answer)
            )
            logp = plain(loaded, whole, len(prompt))
            expected = sum(logp[n, token] for n, token in enumerate(whole[len(prompt) :]))
            assert logprob == pytest.approx(expected, abs=1e-3)
    whole = judged.pairs["likelihood"]
    first = np.exp(judged.logprobs[0]) / np.exp(judged.logprobs[0]).sum()
    assert whole.confidence[0] == pytest.approx(first.max()) and whole.surprisal[0] == pytest.approx(
        -np.log(first[2])
    )
    by_byte = [one / len(o.answer) for one, o in zip(judged.logprobs[0], QUESTIONS[0].options, strict=True)]
    share = np.exp(by_byte) / np.exp(by_byte).sum()
    assert judged.pairs["likelihood a byte"].confidence[0] == pytest.approx(share.max())


def test_results_lead_from_a_set_to_the_token(loaded, tmp_path):
    judged = judge_texts(loaded, TEXTS, 10)
    found = results_of_texts(judged, ["one", "two"], MODEL, loaded.tokenizer)
    write_results(found, tmp_path / "kept.json")
    assert read_results(tmp_path / "kept.json") == found
    rows = [row for a_bin in found.listing.rows[0].inside.rows for row in a_bin.inside.rows]
    assert len(rows) == len(judged.pairs["as it is"])
    for row in rows:
        (opening,) = row.opens
        there = found.texts[opening.text].token_ids[opening.position]
        assert row.cells[3].ids == (there,) and row.cells[0] == (row.cells[2].ids == (there,))
    assert all(chart.curves[1].x == (0.0, 1.0) for chart in found.charts)


def test_results_of_questions_open_each_answer_where_it_begins(loaded):
    judged = judge_questions(loaded, QUESTIONS, 5)
    found = results_of_questions(judged, QUESTIONS, MODEL, loaded.tokenizer)
    assert (
        found.listing.rows[0].cells[2] is None and "A ? stands for an error over fewer than 100" in found.listing.note
    )
    assert found.listing.note.count("so few that it says next to nothing") == len(judged.report.temperatures)
    rows = [row for a_bin in found.listing.rows[0].inside.rows for row in a_bin.inside.rows]
    assert len(rows) == len(QUESTIONS)
    for row in rows:
        for answer in row.inside.rows:
            text = found.texts[answer.opens[0].text]
            behind = b"".join(map(loaded.tokenizer.token_bytes, text.token_ids[answer.opens[0].position :]))
            assert behind.decode().replace(" ", "") == answer.cells[0].replace(" ", "")


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_nothing_to_judge_is_said(loaded, texts):
    with pytest.raises(UserError, match="nothing to judge"):
        judge_texts(loaded, texts, 10)


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"format": "x", "results": {}}), "\x00", "[" * 10**5])
def test_what_is_no_results_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match=r"r\.json"):
        read_results(tmp_path / "r.json")
