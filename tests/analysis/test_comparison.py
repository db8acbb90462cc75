"""Two models over one text, against plain passes of transformers; and that two settings of one do not mix."""

import numpy as np
import pytest
import small
import torch
from msgspec.structs import replace
from recorded_sessions import vector_file

from tui_entropy.analysis.comparison.report import PERCENTILES, report_of, spread
from tui_entropy.analysis.comparison.results import results_of
from tui_entropy.analysis.comparison.run import Setting, check_vocabularies, compare_texts
from tui_entropy.core.errors import UserError
from tui_entropy.engine.scoring.comparison import NUMBERS
from tui_entropy.records.corpus.results import SteeredModel
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.panels import OF_ROW, UNIT

TEXTS = ["The quick brown fox jumps over the lazy dog, and then it is gone. " * 12, "Another?"]
PLAIN = Setting(ModelSpec("tiny"))
MODELS = SteeredModel(ModelSpec("a")), SteeredModel(ModelSpec("b"))


@pytest.fixture(scope="module")
def one():
    return small.loaded()


@pytest.fixture(scope="module")
def other():
    torch.manual_seed(5)
    found = small.loaded()
    with torch.no_grad():
        for weight in found.model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return found


@torch.inference_mode()
def plain(loaded, ids, first):
    logits = loaded.model(input_ids=torch.tensor([list(ids)])).logits[0].double()
    return logits.log_softmax(-1)[first - 1 : -1].numpy()


def test_every_number_is_that_of_two_plain_passes(one, other):
    found = compare_texts(one, other, (PLAIN, PLAIN), TEXTS)
    assert len(found.windows) > 2
    for window, apart in zip(found.windows, found.found, strict=True):
        a, b = (plain(loaded, window.ids, window.first) for loaded in (one, other))
        came = np.asarray(window.ids[window.first :])
        at = np.arange(len(came))
        expected = {
            "kl": (np.exp(a) * (a - b)).sum(1),
            "surprisal_a": -a[at, came],
            "surprisal_b": -b[at, came],
            "entropy_a": -(np.exp(a) * a).sum(1),
            "entropy_b": -(np.exp(b) * b).sum(1),
            "p_a": np.exp(a[at, came]),
            "p_b": np.exp(b[at, came]),
        }
        for name, column in zip(NUMBERS, apart.numbers.numpy().T, strict=True):
            np.testing.assert_allclose(column, expected[name], atol=2e-5, err_msg=name)
        for side, logp in enumerate((a, b)):
            assert (apart.ids[:, side, 0].numpy() == logp.argmax(1)).all()
            for token, both in zip(apart.ids[0, side].tolist(), apart.p[0, side].tolist(), strict=True):
                assert both == pytest.approx([np.exp(a[0, token]), np.exp(b[0, token])], abs=1e-5)


def test_one_with_itself_is_nowhere_apart(one):
    report = compare_texts(one, one, (PLAIN, PLAIN), TEXTS).report
    assert report.same_top == 1 and report.same_top_error == 0
    assert all(each.mean == each.most == 0 for each in report.spreads[1:4]) and report.spreads[0].most < 1e-6
    assert report.perplexity_a == report.perplexity_b


@pytest.mark.parametrize("steered", [0, 1])
def test_a_vector_steers_its_own_side_alone(one, tmp_path, steered):
    settings = [PLAIN, PLAIN]
    settings[steered] = replace_setting(vectors=(vector_file(tmp_path),))
    found = compare_texts(one, one, tuple(settings), TEXTS)
    alone = compare_texts(one, one, (PLAIN, PLAIN), TEXTS)
    sides = [
        np.concatenate([apart.numbers[:, 1 + side].numpy() for apart in its.found])
        for its in (found, alone)
        for side in (0, 1)
    ]
    np.testing.assert_array_equal(sides[1 - steered], sides[2])
    assert np.abs(sides[steered] - sides[2]).max() > 0.01
    assert "push +1" in (found.report.a, found.report.b)[steered]


def replace_setting(**fields):
    return Setting(ModelSpec("tiny"), **fields)


def test_a_prompt_stands_before_one_side_and_is_not_compared(one):
    found = compare_texts(one, one, (PLAIN, replace_setting(prompt="Once upon a time ")), ["abc def"])
    ids = one.tokenizer.encode_as_it_is("Once upon a time ") + list(found.windows[0].ids)
    n = len(found.windows[0].ids) - 1
    b = plain(one, ids, len(ids) - n)
    np.testing.assert_allclose(found.found[0].numbers[:, 2], -b[np.arange(n), ids[-n:]], atol=2e-5)
    assert found.report.n == n


def test_vocabularies_that_differ_are_refused_with_what_differs(one, other):
    check_vocabularies(one, other)
    inner = other.tokenizer.hf_tokenizer
    inner.add_tokens(["<new>"])
    with pytest.raises(UserError, match=r"differ \(they have (\d+) and (\d+) tokens\)"):
        check_vocabularies(one, other)
    with pytest.raises(UserError, match=r"'<new>'.*is not there in the second"):
        check_vocabularies(other, one)


def test_results_open_each_token_by_either_model(one, other):
    found = compare_texts(one, one, (PLAIN, PLAIN), TEXTS)
    results = results_of(found.report, found.windows, found.found, ["x", "y"], MODELS, one.tokenizer)
    units = [column.unit for column in results.listing.columns]
    assert units[:2] == ["", UNIT] and set(units[2:]) == {OF_ROW}  # bits or nats, as a person wants
    assert results.listing.rows[0].cells[1] == results.charts[0].y.unit == "nats"
    worst = results.listing.rows[0].inside
    assert [row.cells[0] for row in worst.rows] == sorted((row.cells[0] for row in worst.rows), reverse=True)
    for row in worst.rows[:20]:
        a, b = row.opens
        assert (a.model, b.model) == (0, 1) and (a.text, a.position) == (b.text, b.position)
        assert row.cells[1].ids == (results.texts[a.text].token_ids[a.position],)
        p = [candidate.cells[1] for candidate in row.inside.rows]
        assert row.cells[4] <= max(p) + 1e-6 and len({c.cells[0].ids for c in row.inside.rows}) == len(p) >= 5


def test_spreads_by_hand():
    found = spread("x", "", np.arange(101.0))
    assert found.percentiles == tuple(map(float, PERCENTILES)) and (found.least, found.most, found.mean) == (
        0,
        100,
        50,
    )
    assert found.mean_error == pytest.approx(np.arange(101).std(ddof=1) / np.sqrt(101))
    numbers = np.zeros((4, len(NUMBERS)))
    numbers[:, 1] = np.log(8)
    ids = np.array([[[1], [1]], [[1], [2]], [[1], [1]], [[1], [1]]])
    report = report_of(("a", "b"), numbers, ids)
    assert report.same_top == 0.75 and report.same_top_error == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    assert (report.perplexity_a, report.perplexity_b) == (pytest.approx(8), pytest.approx(1))


@pytest.mark.parametrize("texts", [[], ["a"], ["", "b"]])
def test_nothing_to_compare_is_said(one, texts):
    with pytest.raises(UserError, match="nothing can be compared"):
        compare_texts(one, one, (PLAIN, PLAIN), texts)


def test_a_vector_that_hangs_on_steps_is_refused(one, tmp_path):
    for field in ({"schedule": ((1, 0.5),)}, {"condition": "entropy > 1"}):
        vector = replace(vector_file(tmp_path), **field)
        with pytest.raises(UserError, match="at some steps only"):
            compare_texts(one, one, (replace_setting(vectors=(vector,)), PLAIN), TEXTS)
