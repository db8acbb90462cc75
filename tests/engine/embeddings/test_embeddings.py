"""Embeddings: against brute force, made embeddings that hold an analogy, and bigrams counted by hand."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import probed
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tui_entropy.engine.embeddings import nearest as nearest_module
from tui_entropy.engine.embeddings.analogies import Pair, accuracy, analogies
from tui_entropy.engine.embeddings.markov import markov_reading, weighted
from tui_entropy.engine.embeddings.nearest import nearest
from tui_entropy.engine.probes.library.stream import nearest_tokens
from tui_entropy.engine.verify.checks.probes import Evidence
from tui_entropy.engine.verify.evidence.compare import allowed, gap

FAMILIES = (
    "llama gpt2 gemma2 gemma3 qwen3 gpt_oss hybrid mixtral mistral olmo2 granite cohere phi gpt_neox falcon jamba"
)
DRAWS = torch.Generator().manual_seed(3)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_the_nearest_are_those_of_every_pair_compared(similarity, monkeypatch):
    monkeypatch.setattr(nearest_module, "TOGETHER", 7)
    vectors, embedding = torch.randn(4, 6, generator=DRAWS), torch.randn(20, 6, generator=DRAWS)
    found = nearest(vectors, embedding, 5, similarity)
    for row, vector in enumerate(vectors.double()):
        each = [
            {
                "cosine": float(vector @ one / vector.norm() / one.norm()),
                "dot": float(vector @ one),
                "euclidean": float((vector - one).norm()),
            }[similarity]
            for one in embedding.double()
        ]
        best = sorted(range(20), key=lambda at: each[at] if similarity == "euclidean" else -each[at])[:5]
        assert found.ids[row].tolist() == best
        np.testing.assert_allclose(found.values[row], [each[at] for at in best], rtol=1e-5)


def test_there_are_no_more_than_there_are():
    assert nearest(torch.ones(1, 3), torch.eye(3), 9, "dot").ids.shape == (1, 3)


def made(n_pairs, step=1.0):
    """Words 2i and 2i + 1, where the second is the first and one step in a direction of its own; and noise."""
    first = torch.zeros(n_pairs, n_pairs + 9)
    first[:, :n_pairs] = 10 * torch.eye(n_pairs)
    second = first.clone()
    second[:, -1] += step
    return torch.stack([first, second], 1).flatten(0, 1), [Pair(2 * at, 2 * at + 1) for at in range(n_pairs)]


def test_one_step_leads_from_each_first_word_to_its_second():
    embedding, pairs = made(5)
    found = analogies(embedding, pairs, "euclidean")
    assert [one.rank for one in found] == [1] * 5
    assert all(one.top[0] == one.pair.second and one.pair.first not in one.top for one in found)
    assert accuracy(found, 1) == (1.0, 1.0), "with no step the second word is nearest too, since the step is short"
    long, pairs = made(5, 40.0)
    assert accuracy(analogies(long, pairs, "euclidean"), 1) == (1.0, 0.0)


def test_no_pair_is_judged_by_its_own_step():
    embedding, pairs = made(3)
    embedding[5] = embedding[4] - 50 * torch.eye(12)[3]  # the last pair goes another way
    last = analogies(embedding, pairs, "euclidean")[-1]
    assert last.rank > 1


def direct(table):
    """The logits of a path that says this of each token."""
    return lambda some: torch.stack([torch.tensor(table[int(token)]).log() for token in some])


IDS = [0, 1, 0, 1, 0, 2, 0, 1]


def test_the_bigrams_of_a_text_are_read_without_a_difference():
    share = {0: [1e-9, 0.75, 0.25], 1: [1.0, 1e-9, 1e-9], 2: [1.0, 1e-9, 1e-9]}
    found = markov_reading(IDS, direct(share), 1)
    assert [(one.token, one.n, one.said, one.most_frequent) for one in found.followers] == [
        (0, 4, 1, 1), (1, 2, 0, 0), (2, 1, 0, 0),
    ]  # fmt: skip
    assert all(one.kl == pytest.approx(0, abs=1e-6) and one.hit for one in found.followers)
    assert found.identity == 0.0 and found.most_frequent_token == 0
    first = found.followers[0]
    assert first.kl_of_frequencies == pytest.approx(0.75 * math.log(0.75 / (3 / 8)) + 0.25 * math.log(0.25 / (1 / 8)))
    assert weighted(found.followers, lambda one: one.n) == (16 + 4 + 1) / 7


def test_a_path_that_hands_the_token_on_says_it_again():
    found = markov_reading(IDS, lambda some: torch.eye(3)[some] * 9, 1)
    assert found.identity == 1.0 and not any(one.hit for one in found.followers)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(1, 4))
def test_only_what_is_there_often_enough_is_told(ids, least):
    found = markov_reading(ids, lambda some: torch.zeros(len(some), 5), least)
    counts = Counter(one for one, _ in pairwise(ids))
    assert {one.token: one.n for one in found.followers} == {token: n for token, n in counts.items() if n >= least}
    for one in found.followers:
        assert 0 <= one.kl <= math.log(5) + 1e-9


@pytest.mark.parametrize("family", FAMILIES.split())
def test_on_every_family_doctor_finds_the_nearest_tokens(family):
    with probed.written(probed.of_family(family)) as session:
        answered = probed.asked(session, "nearest-tokens")
        if answered.unavailable is not None:
            assert "wide" in answered.unavailable
            return
        loaded, ids = probed.of_family(family), session.state.run_of(1).sequence.ids.clone()
        evidence = Evidence(loaded, ids, len(ids) - 1, SimpleNamespace(token_id=int(ids[-1])))
        with torch.no_grad():
            found = list(nearest_tokens.PROBE.check(answered, evidence))
        for actual, expected, size in found:
            assert gap(actual, expected) <= allowed(torch.float32, size)


def test_doctor_finds_a_layer_that_is_off_by_one():
    with probed.written(probed.of_family("llama")) as session:
        answered = probed.asked(session, "nearest-tokens")
        (table, *_) = answered.panels
        ids = session.state.run_of(1).sequence.ids.clone()
        evidence = Evidence(probed.of_family("llama"), ids, len(ids) - 1, SimpleNamespace(token_id=int(ids[-1])))
        shifted = type(table)(table.title, table.columns, (*table.rows[1:], table.rows[0]))
        wrong = replace(answered, panels=(shifted, *answered.panels[1:]))
        with torch.no_grad():
            found = list(nearest_tokens.PROBE.check(wrong, evidence))
        assert any(gap(one, other) > allowed(torch.float32, size) for one, other, size in found)
