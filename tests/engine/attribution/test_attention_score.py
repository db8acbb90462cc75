"""Why a head looked at a token: parts of query, key and both sum to the score, in models of many kinds."""

import math
from dataclasses import replace

import numpy as np
import probed
import pytest
import torch

from tui_entropy.core.errors import UserError
from tui_entropy.engine.attribution.attention_score import stream_parts
from tui_entropy.engine.decomposition.block_parts import BlockParts
from tui_entropy.engine.probes.library.attention import attention_score
from tui_entropy.records.probes.panels import Bars, Heatmap, Table

NAME = "attention-score"
FAMILIES = (
    "llama", "mistral", "gemma2", "gemma3_text", "qwen3", "olmo2", "olmo3", "granite", "cohere", "phi", "gpt_neox",
    "mixtral", "gpt_oss", "stablelm", "starcoder2", "opt", "gpt2", "glm4", "deepseek_v3", "qwen3_5_text", "jamba",
)  # fmt: skip
"""Soft caps, norms of queries and keys, norms behind parts, biases, partial rotations, low ranks, hybrids."""
CANNOT = {"bloom": "no attention rows", "mamba": "no attention rows", "bert": "normed or mixed"}


@pytest.fixture(scope="module", params=FAMILIES)
def session(request):
    with probed.written(probed.of_family(request.param)) as session:
        yield session


@pytest.fixture(scope="module")
def llama():
    with probed.written(probed.of_family("llama")) as session:
        yield session


def sums(answer):
    assert answer.unavailable is None
    return dict(answer.panels[1].rows)


def last_layer(session):
    return max(n for n, has_rows in enumerate(session.state.loaded.architecture.attention, 1) if has_rows)


@pytest.mark.parametrize("side", ["query", "key", "both"])
def test_the_parts_sum_to_the_score_that_the_model_has(session, side):
    layer = last_layer(session)
    for head in (1, 4):
        answer = probed.asked(session, NAME, layer=layer, head=head, side=side, k=99)
        told = sums(answer)
        size = sum(abs(row[1]) for row in answer.panels[2].rows)
        score = told.pop("score")
        assert sum(told.values()) == pytest.approx(score, abs=1e-5)
        assert abs(told["remainder"]) <= 1e-4 * max(size, 1)
        assert score == pytest.approx(answer.panels[0].rows[0][-1])
        if side == "both":
            grid = next(panel for panel in answer.panels if isinstance(panel, Heatmap)).values.numpy()
            assert grid.sum() == pytest.approx(score, abs=1e-4 * max(np.abs(grid).sum(), 1))
            values = {row[0]: row[1] for row in answer.panels[2].rows}
            np.testing.assert_allclose(grid[0].sum(), values["embedding"], atol=1e-4 * max(np.abs(grid).sum(), 1))


def test_scores_are_those_that_softmax_made_weights_of(session):
    """Their differences are those of the logarithms of weights."""
    layer, n = last_layer(session), session.state.run_of(1).sequence.n_tokens - 1
    rows = [probed.asked(session, NAME, layer=layer, head=2, key=key).panels[0].rows[0] for key in (n - 1, n - 3)]
    (*_, one, one_score), (*_, other, other_score) = rows
    assert math.log(one / other) == pytest.approx(one_score - other_score, abs=1e-3)


def test_every_number_is_that_of_plain_passes(session):
    assert max(probed.doctored(session, attention_score.PROBE)) <= 1


@pytest.mark.parametrize("family", CANNOT)
def test_a_model_whose_scores_are_no_such_sum_says_why(family):
    with probed.written(probed.of_family(family)) as session:
        told = probed.asked(session, NAME)
    assert not told.panels and CANNOT[family] in told.unavailable


def test_the_pair_is_the_one_that_was_looked_at_most_but_for_the_first_token(llama):
    about, *_ = probed.asked(llama, NAME).panels
    rows = probed.asked(llama, "attention", layer=about.rows[0][0], head=about.rows[0][1], n_queries=1).panels[0]
    n = llama.state.run_of(1).sequence.n_tokens - 1
    weights = rows.values.numpy()[0, :n]
    *_, key, weight, _ = about.rows[0]
    assert key == 1 + int(weights[1:].argmax()) and weight == pytest.approx(weights[key], abs=1e-5)
    heads = [probed.asked(llama, NAME, layer=layer).panels[0].rows[0][-2] for layer in (2, 3, 4)]
    assert weight == pytest.approx(max(heads))


def test_panels_are_the_pair_the_sum_the_largest_and_bars(llama):
    answer = probed.asked(llama, NAME, layer=4, head=1, k=2)
    assert [type(panel) for panel in answer.panels] == [Table, Table, Table, Bars, Bars]
    largest = answer.panels[2]
    assert len(largest.rows) == 3 and largest.rows[2][0].endswith("others")
    assert sum(row[2] for row in largest.rows) == pytest.approx(1)
    first = probed.asked(llama, NAME, layer=1, head=1)
    assert [type(panel) for panel in first.panels] == [Table] * 3  # nothing but the embedding is before it


def test_a_block_that_scales_its_input_scales_the_parts_before_it():
    given, added = torch.ones(1, 4), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    first = BlockParts(given, added, None, None, given + added)
    second = BlockParts(first.output / 2, None, added, None, first.output / 2 + added)
    parts = stream_parts([first, second])
    assert [(part.kind, part.block) for part in parts] == [
        ("embedding", 0), ("attention", 1), ("feed-forward", 2),
    ]  # fmt: skip
    torch.testing.assert_close(sum(part.vector for part in parts), second.output[0])


def test_what_there_is_not_is_refused_in_a_sentence(llama):
    for options in ({"layer": 99}, {"layer": 1, "head": 99}, {"layer": 1, "key": 10**6}):
        with pytest.raises(UserError):
            probed.asked(llama, NAME, **options)


def test_doctor_sees_a_block_taken_for_the_next(llama, monkeypatch):
    honest = attention_score.stream_parts

    def off_by_one(blocks):
        return [replace(part, block=part.block % 4 + 1) if part.block else part for part in honest(blocks)]

    monkeypatch.setattr(attention_score, "stream_parts", off_by_one)
    assert max(probed.doctored(llama, attention_score.PROBE)) > 10
