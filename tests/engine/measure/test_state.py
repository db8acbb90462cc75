"""Steps judged by those before them: closed forms, and numpy as the reference."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.engine.measure.running_stats import ENOUGH, RunningStats, outside, state, z_score
from tui_entropy.records.step import PERPLEXITY_WINDOW, RECENT, STATES

nats = st.floats(0, 12)


def judged(entropies, attention=None, surprisals=None, norms=None):
    """The judgement of every step of a run."""
    recent = RunningStats()
    attention = attention if attention is not None else [0.5] * len(entropies)
    surprisals = surprisals or [1.0] * len(entropies)
    norms = norms or [[1.0]] * len(entropies)
    found = []
    for entropy, looked, surprisal, row in zip(entropies, attention, surprisals, norms, strict=True):
        found.append(recent.evaluate(entropy, 0.0, surprisal, looked, row))
        recent.commit()
    return found


@pytest.mark.parametrize(
    ("entropy_z", "attention_z", "expected"),
    [
        (None, 2.0, "Warming up"),
        (2.0, None, "Warming up"),
        (1.5, 1.5, "Uncertain"),
        (-1.5, -1.5, "Overconfident"),
        (0.9, -0.9, "Confident"),
        (1.0, -1.0, "Confident"),
        (1.5, -1.5, "Conflicted"),
        (-1.5, 1.5, "Conflicted"),
        (1.5, 0.0, "Leaning uncertain"),
        (0.0, 1.5, "Leaning uncertain"),
        (-1.5, 0.0, "Leaning overconfident"),
        (0.0, -1.5, "Leaning overconfident"),
    ],
)
def test_every_pair_of_z_scores_has_a_state(entropy_z, attention_z, expected):
    assert state(entropy_z, attention_z) == expected
    assert expected in STATES


def test_the_window_is_the_newest_steps_without_the_present_one():
    uniform = np.random.default_rng(1)
    entropies = uniform.normal(3, 1, RECENT + 60).tolist()
    attention = uniform.normal(0.5, 0.1, RECENT + 60).tolist()
    run = judged(entropies, attention)
    for index in (ENOUGH, 100, RECENT + 59):
        before = np.array(entropies[max(index - RECENT, 0) : index])
        assert run[index].entropy_z == pytest.approx((entropies[index] - before.mean()) / before.std())
        before = np.array(attention[max(index - RECENT, 0) : index])
        assert run[index].attention_z == pytest.approx((attention[index] - before.mean()) / before.std())
    assert [one.state for one in run[:ENOUGH]] == ["Warming up"] * ENOUGH
    assert run[ENOUGH].state != "Warming up"


def test_a_constant_series_has_no_z_score():
    assert z_score([2.0] * 50, 3.0) is None
    assert z_score([2.0] * 3, 3.0) is None
    assert judged([2.0] * 40)[-1].state == "Warming up"


def test_without_attention_the_state_is_unknown_but_entropy_still_has_a_z_score():
    run = judged([math.sin(n) for n in range(40)], attention=[None] * 40)
    assert run[-1].state == "Unknown"
    assert run[-1].attention_z is None
    assert run[-1].entropy_z is not None


def test_a_first_step_without_attention_does_not_spoil_the_window():
    attention = [None] + [0.5 + 0.1 * math.sin(n) for n in range(40)]
    assert judged([math.sin(n) for n in range(41)], attention)[-1].attention_z is not None


@given(st.lists(nats, min_size=1, max_size=PERPLEXITY_WINDOW + 30))
def test_perplexity_is_exp_of_the_mean_surprisal(surprisals):
    last = judged([0.0] * len(surprisals), surprisals=surprisals)[-1]
    assert last.perplexity == pytest.approx(math.exp(np.mean(surprisals)), rel=1e-6)
    assert last.window_perplexity == pytest.approx(math.exp(np.mean(surprisals[-PERPLEXITY_WINDOW:])), rel=1e-6)


def test_a_text_with_an_impossible_token_has_the_largest_perplexity_there_is():
    assert judged([0.0] * 2, surprisals=[1.0, math.inf])[-1].perplexity == pytest.approx(sys.float_info.max)


def test_a_block_that_jumps_is_a_stray_and_one_that_never_moved_is_none():
    uniform = np.random.default_rng(2)
    norms = np.stack([uniform.normal(100, 1, 60), np.full(60, 7.0), uniform.normal(50, 5, 60)], 1)
    norms[40] = (110.0, 7.0, 52.0)
    run = judged([0.0] * 60, norms=norms.tolist())
    assert run[40].strays == (1,)
    assert run[10].strays == ()
    assert outside(list(norms[:40]), norms[40] + np.array([0.0, 0.5, 0.0])) == (1, 2)
