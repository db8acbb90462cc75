"""Bounds of entropy and varentropy from the most probable tokens alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.servers.streams.band import are_probabilities, bands, entropy_band


@st.composite
def distributions(draw):
    """(probabilities, falling; how many of them are told)"""
    weights = draw(st.lists(st.floats(1e-6, 1.0) | st.sampled_from([1.0, 1e-9]), min_size=2, max_size=60))
    sharp = draw(st.sampled_from([0.2, 1.0, 4.0]))
    powers = [weight**sharp for weight in weights]
    told = draw(st.integers(1, len(weights)))
    return sorted((power / sum(powers) for power in powers), reverse=True), told


def moments(probabilities):
    entropy = -sum(p * math.log(p) for p in probabilities if p > 0)
    return entropy, sum(p * math.log(p) ** 2 for p in probabilities if p > 0) - entropy**2


@given(distributions())
def test_what_is_true_lies_between_the_bounds(distribution):
    probabilities, told = distribution
    entropy, varentropy = moments(probabilities)
    logprobs = [math.log(p) for p in probabilities[:told]]
    low, high = entropy_band(logprobs, len(probabilities))
    assert low - 1e-9 <= entropy <= high + 1e-9
    if band := bands(logprobs, len(probabilities))[1]:
        assert band.low - 1e-9 <= varentropy <= band.high + 1e-9


@given(distributions())
def test_one_more_token_told_never_widens_the_band(distribution):
    probabilities, told = distribution
    logprobs = [math.log(p) for p in probabilities]
    wide, narrow = (entropy_band(logprobs[:n], len(logprobs)) for n in (max(told - 1, 1), told))
    assert wide.low <= narrow.low + 1e-9 and narrow.high <= wide.high + 1e-9


def test_both_ends_are_reached():
    half, quarter = math.log(1 / 2), math.log(1 / 4)
    low, high = entropy_band([half, quarter], 4)
    assert (low, high) == pytest.approx((1.5 * math.log(2), 1.75 * math.log(2)))
    assert moments([1 / 2, 1 / 4, 1 / 4, 0])[0] == pytest.approx(low)
    assert moments([1 / 2, 1 / 4, 1 / 8, 1 / 8])[0] == pytest.approx(high)


def test_the_whole_distribution_is_a_point():
    logprobs = [math.log(p) for p in (0.6, 0.3, 0.1)]
    assert entropy_band(logprobs, 3).is_point and entropy_band(logprobs, 3).low == pytest.approx(
        moments([0.6, 0.3, 0.1])[0]
    )
    assert not entropy_band(logprobs[:2], 3 + 50).is_point


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.1], [-0.1, -0.1], [5.0, 3.2, -1.0]])
def test_zeros_and_logits_are_no_probabilities(values):
    assert not are_probabilities(values)
    assert are_probabilities([-0.7, -0.7])


def test_where_most_of_it_may_lie_anywhere_varentropy_is_unknown():
    assert bands([math.log(0.45)], 50_000)[1] is None
    assert bands([math.log(0.9)], 50_000)[1] is not None
