"""The stages that llama.cpp has, by hand and against its rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sampled_rows import OFF, counts, left, logits_of, past, row

from tui_entropy.engine.sampling.chain import apply, draw, next_mu, stages
from tui_entropy.engine.sampling.gumbel import gumbel, uniform
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.dry import repeats
from tui_entropy.stages.registry import ORDERS


@pytest.mark.parametrize(
    ("last_n", "taken"), [(0, [0, 0.75, 1.75]), (3, [0, 0, 1.75]), (5, [0, 1.25, 1.75]), (99, [1.25, 1.25, 1.75])]
)
def test_a_window_lets_penalties_see_the_newest_tokens_with_the_prompt(last_n: int, taken: list[float]) -> None:
    knobs = replace(OFF, frequency_penalty=0.5, presence_penalty=0.25, penalty_last_n=last_n)
    context = past([0, 0, 1], [1, 2, 2, 2])
    assert apply(knobs, torch.zeros(3), context).scores.tolist() == pytest.approx([-x for x in taken])
    repetition = replace(OFF, repetition_penalty=2.0, penalty_last_n=last_n)
    seen = [0, 0, 1, 1, 2, 2, 2][-last_n:]
    halved = [0.5 if token_id in seen else 1.0 for token_id in range(3)]
    assert apply(repetition, torch.ones(3), context).scores.tolist() == halved


@pytest.mark.parametrize(
    ("context", "breakers", "last_n", "taken"),
    [
        ([1, 2, 3, 1, 2], [], 0, {3: 1.0}),  # 1 2 is as long as is allowed: base ** 0
        ([1, 2, 3, 4, 1, 2, 3], [], 0, {4: 2.0}),
        ([5, 5, 5, 5], [], 0, {5: 2.0}),  # 5 5 5, overlapping itself
        ([2, 7, 3, 1, 2, 7, 4, 1, 2, 7], [], 0, {4: 2.0, 3: 1.0}),  # the longest for each token
        ([2, 3, 1, 2], [], 0, {}),  # 2 alone is shorter than what counts
        ([1, 2, 3, 1, 2], [], 4, {}),  # the first 1 is out of sight
        ([1, 2, 3, 1, 2], [1], 0, {}),  # a sequence begins after a breaker
        ([6, 1, 2, 3, 6, 1, 2], [6], 0, {3: 1.0}),
        ([6, 1, 2, 3, 6, 1, 2], [], 0, {3: 2.0}),
        ([1, 2, 3, 1, 2], [2], 0, {}),
        ([1, 2, 3, 1, 2], [3], 0, {}),  # a breaker is not penalised itself
        ([1], [], 0, {}),
        ([], [], 0, {}),
    ],
)
def test_dry(context: list[int], breakers: list[int], last_n: int, taken: dict[int, float]) -> None:
    knobs = replace(OFF, dry_multiplier=1.0, dry_base=2.0, dry_allowed_length=2, penalty_last_n=last_n)
    chained = apply(knobs, torch.zeros(8), past(context[:2], context[2:], breakers=frozenset(breakers)))
    assert {token_id: -score for token_id, score in enumerate(chained.scores.tolist()) if score} == taken


def test_dry_stays_finite_however_long_the_repeat() -> None:
    for base in (1.0, 1.75, 100.0):
        knobs = replace(OFF, dry_multiplier=100.0, dry_base=base)
        chained = apply(knobs, torch.zeros(3), past([1] * 3000))
        assert chained.scores[1] <= -100 and chained.scores.isfinite().all()
        assert counts(chained) == {"dry_multiplier": 3}


@given(st.lists(st.integers(0, 2), max_size=24), st.frozensets(st.just(2)))
def test_repeats_are_those_found_by_trying_every_length(context: list[int], breakers: frozenset[int]) -> None:
    expected: dict[int, int] = {}
    for at in range(1, len(context)):
        for length in range(1, at + 1):
            tail = context[-length:]
            if context[at - length : at] == tail and not breakers & set(tail):
                expected[context[at]] = max(expected.get(context[at], 0), length)
    assert repeats(np.array(context, dtype=np.int64), breakers) == expected


@pytest.mark.parametrize(
    ("probs", "threshold", "kept"),
    [
        ((0.4, 0.3, 0.2, 0.1), 0.05, {3}),
        ((0.4, 0.3, 0.2, 0.1), 0.15, {2, 3}),
        ((0.2, 0.1, 0.4, 0.3), 0.15, {0, 1}),
        ((0.4, 0.3, 0.2, 0.1), 0.35, {0, 1, 2, 3}),  # one likely token alone stays
        ((0.4, 0.3, 0.2, 0.1), 0.45, {0, 1, 2, 3}),
        ((1.0,), 0.1, {0}),
    ],
)
def test_xtc_keeps_of_the_likely_ones_the_least(probs: tuple[float, ...], threshold: float, kept: set[int]) -> None:
    assert left(replace(OFF, xtc_probability=1.0, xtc_threshold=threshold), logits_of(*probs)) == kept


def test_xtc_among_equals_keeps_one_and_above_a_half_is_off() -> None:
    assert len(left(replace(OFF, xtc_probability=1.0, xtc_threshold=0.2), torch.zeros(4))) == 1
    assert stages(replace(OFF, xtc_probability=1.0, xtc_threshold=0.51)) == ()


def test_xtc_acts_as_often_as_it_should_whatever_is_drawn() -> None:
    knobs = replace(OFF, xtc_probability=0.3, xtc_threshold=0.2)
    logits = logits_of(0.5, 0.4, 0.1)
    acted = [counts(apply(knobs, logits, past(position=at)))["xtc_probability"] == 2 for at in range(3000)]
    assert scipy.stats.binomtest(sum(acted), len(acted), 0.3).pvalue > 1e-3
    numbers = np.array([uniform(7, at) for at in range(4000)])
    assert scipy.stats.kstest(numbers, "uniform").pvalue > 1e-3
    noise = torch.stack([gumbel(torch.arange(6), 7, at) for at in range(4000)]).numpy()
    assert all(abs(np.corrcoef(numbers, column)[0, 1]) < 0.06 for column in noise.T)


@pytest.mark.parametrize(("mu", "kept"), [(3.1, {0, 1, 2, 3}), (2.9, {0, 1}), (1.9, {0}), (0.5, {0}), (-4.0, {0})])
def test_mirostat_keeps_what_surprises_at_most_so_many_bits(mu: float, kept: set[int]) -> None:
    logits = logits_of(0.5, 0.25, 0.125, 0.125)
    assert left(replace(OFF, mirostat_tau=5.0), logits, mu=mu) == kept
    assert left(replace(OFF, mirostat_tau=mu / 2), logits) == kept or mu <= 0  # it begins at twice the target


@pytest.mark.parametrize(
    ("mu", "prob", "after"),
    [(10.0, 0.25, 10.3), (None, 0.25, 10.3), (4.0, 2**-9, 3.6), (4.0, 1.0, 4.5), (4.0, 2**-5, 4)],
)
def test_mirostats_bound_moves_by_eta_times_the_miss(mu: float | None, prob: float, after: float) -> None:
    assert next_mu(mu, Knobs(mirostat_tau=5.0, mirostat_eta=0.1), prob) == pytest.approx(after)


def test_mirostat_holds_the_surprisal_at_its_target() -> None:
    knobs, mu, surprisals = replace(OFF, mirostat_tau=3.0), None, []
    for at in range(400):
        scores = apply(knobs, row(at, vocab=2000, scale=2.0), past(position=at, mu=mu)).scores
        prob = float(scores.softmax(-1)[draw(scores, 7, at)])
        surprisals.append(-math.log2(prob))
        mu = next_mu(mu, knobs, prob)
    assert np.mean(surprisals[50:]) == pytest.approx(3.0, abs=0.2)


def test_llama_cpp_runs_mirostat_after_a_plain_temperature_alone() -> None:
    knobs = Knobs(mirostat_tau=5.0, repetition_penalty=1.1, dynatemp_range=0.3)
    assert stages(knobs) == ("repetition_penalty", "temperature", "top_k", "top_p", "mirostat_tau")
    alone = replace(knobs, order=ORDERS["llama.cpp"])
    assert stages(alone) == ("temperature", "mirostat_tau")
    logits = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(apply(alone, logits, past(mu=9.0)).scores, logits / 0.7)


@pytest.mark.parametrize(
    ("probs", "temperature", "spread", "exponent", "expected"),
    [
        ((0.5, 0.5), 1.0, 0.5, 1.0, 1.5),  # all entropy that two tokens can have
        ((0.5, 0.5, 0.0), 1.0, 0.5, 1.0, 1.5),  # of what is left
        ((1.0, 1e-30), 1.0, 0.5, 1.0, 0.5),
        ((0.9, 0.1), 1.0, 0.5, 1.0, 0.5 + 0.4689956),
        ((0.9, 0.1), 1.0, 0.5, 2.0, 0.5 + 0.4689956**2),
        ((0.9, 0.1), 0.5, 1.5, 1.0, 2.0 * 0.4689956),  # never below 0
    ],
)
def test_dynamic_temperature(
    probs: tuple[float, ...], temperature: float, spread: float, exponent: float, expected: float
) -> None:
    knobs = replace(OFF, temperature=temperature, dynatemp_range=spread, dynatemp_exponent=exponent)
    logits = logits_of(*probs)
    chained = apply(knobs, logits, past())
    assert chained.stages == ("temperature",)
    torch.testing.assert_close(chained.scores[:2], logits[:2] / expected)
