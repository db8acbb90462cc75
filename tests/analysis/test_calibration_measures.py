"""Errors of calibration: worked out by hand, laws, and what netcal 1.4.0 says of the same arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.analysis.calibration.measures import MIN_PAIRS, bin_of, bins, bootstrap, errors
from tui_entropy.analysis.calibration.pairs import Pairs, Place, of_logits
from tui_entropy.analysis.calibration.summary import calibration

SHARES = st.floats(0, 1)


def pairs_of(confidence, correct, groups=None):
    n = len(confidence)
    confidence, correct = np.asarray(confidence, float), np.asarray(correct, bool)
    groups = np.zeros(n, int) if groups is None else np.asarray(groups)
    return Pairs(confidence, correct, np.full(n, 0.5), np.full(n, 0.25), groups, [Place(0, at, 0) for at in range(n)])


def test_by_hand():
    confidence, correct = np.array([0.2, 0.4, 0.6, 0.9, 1.0]), np.array([False, True, True, True, False])
    found = errors(confidence, correct, 2)
    # (0, 0.5]: 0.2 and 0.4, mean 0.3, half right; (0.5, 1]: mean 2.5 / 3, two of three right.
    off = abs(0.5 - 0.3), abs(2 / 3 - 2.5 / 3)
    assert found.ece == pytest.approx((2 * off[0] + 3 * off[1]) / 5)
    assert found.mce == pytest.approx(max(off))
    assert found.gap == pytest.approx(3.1 / 5 - 3 / 5)
    assert found.brier == pytest.approx((0.04 + 0.36 + 0.16 + 0.01 + 1.0) / 5)
    assert found.adaptive_ece == pytest.approx((3 * abs(2 / 3 - 1.2 / 3) + 2 * abs(1 / 2 - 1.9 / 2)) / 5)


def test_as_netcal_has_it_with_confidences_of_exactly_0_and_1():
    """netcal 1.4.0, ECE(b).measure and MCE(b).measure, of these very arrays. On an inner edge it counts to the bin
    above, and none lies on one here."""
    draws = np.random.default_rng(3)
    confidence = draws.random(200)
    confidence[:5], confidence[5:9] = 1, 0
    correct = draws.random(200) < confidence**1.5
    netcal = {
        5: (0.09421201006490841, 0.19045533849571464),
        10: (0.09421201006490838, 0.22412462018535423),
        15: (0.09923294072767073, 0.3011068235330211),
    }
    for n_bins, expected in netcal.items():
        assert errors(confidence, correct, n_bins)[:2] == pytest.approx(expected, abs=1e-12)


def test_0_and_1_and_edges_fall_into_the_bins_that_are_named():
    edges = [0.0, 1e-300, 0.25, np.nextafter(0.25, 1), 0.5, 0.75, 1.0]
    assert bin_of(np.array(edges), 4).tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert [one.n for one in bins(np.array([0.0, 1.0, 1.0]), np.array([False, True, True]), 15)] == [1, *[0] * 13, 2]


@given(st.lists(st.tuples(SHARES, st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_what_holds_of_every_set(some, n_bins):
    confidence, correct = np.array([one for one, _ in some]), np.array([one for _, one in some])
    found, of_bins = errors(confidence, correct, n_bins), bins(confidence, correct, n_bins)
    assert sum(one.n for one in of_bins) == len(some)
    assert abs(found.gap) <= found.ece + 1e-12 <= found.mce + 2e-12 <= 1 + 4e-12
    assert 0 <= found.brier <= 1 and abs(found.gap) <= found.adaptive_ece + 1e-12
    for one in of_bins:
        if one.n:
            assert one.low - 1e-12 <= one.confidence <= one.high + 1e-12 and 0 <= one.accuracy <= 1


def test_who_is_right_as_often_as_sure_has_next_to_no_error():
    confidence = np.repeat([0.25, 0.5, 0.75], 400)
    correct = np.concatenate([np.arange(400) < n for n in (100, 200, 300)])
    assert errors(confidence, correct) == pytest.approx(
        (0, 0, 0, 0, np.mean(confidence * (1 - confidence))), abs=1e-2
    )
    assert errors(confidence[::-1], correct[::-1]) == pytest.approx(errors(confidence, correct))
    sure = errors(np.minimum(confidence + 0.2, 1), correct)
    assert sure.gap == pytest.approx(0.2) and sure.ece == pytest.approx(0.2)


def test_an_interval_holds_the_measure_and_is_wider_where_pairs_hang_together():
    draws = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 25)
    wrong = draws.random(40) < 0.5
    correct = ~wrong[groups]
    confidence = np.full(1000, 0.5)

    def accuracy(at):
        return float(correct[at].mean())

    low, high = bootstrap(accuracy, groups, n_resamples=300)
    alone = bootstrap(accuracy, np.arange(1000), n_resamples=300)
    assert low < accuracy(slice(None)) < high and high - low > 3 * (alone[1] - alone[0])
    judged = calibration("x", pairs_of(confidence, correct, groups), 15, "token")
    assert judged.drawn == "texts" and judged.ece_interval[0] <= judged.ece <= judged.ece_interval[1]


def test_few_pairs_have_no_calibration_error():
    few = calibration("x", pairs_of([0.5] * (MIN_PAIRS - 1), [True] * (MIN_PAIRS - 1)), 15, "question")
    assert (few.ece, few.mce, few.adaptive_ece, few.ece_interval) == (None, None, None, ())
    assert few.gap == pytest.approx(-0.5) and few.drawn == "questions"


def test_pairs_of_logits_by_hand():
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.9, 1e-300]]))
    logits[1, 2] = -np.inf
    found = of_logits(logits, [1, 1], [Place(0, 0, 0), Place(1, 0, 0)])
    assert found.confidence == pytest.approx([0.5, 0.9]) and found.correct.tolist() == [False, True]
    assert found.surprisal == pytest.approx(-np.log([0.3, 0.9]))
    assert found.brier == pytest.approx([0.25 + 0.49 + 0.04, 0.01 + 0.01])
    assert [place.said for place in found.places] == [0, 1]
    hot = of_logits(logits, [1, 1], found.places, temperature=2.0)
    assert hot.confidence[0] == pytest.approx(0.5**0.5 / (0.5**0.5 + 0.3**0.5 + 0.2**0.5))


def test_with_the_probability_of_the_true_label_above_one_half_is_always_right():
    pairs = of_logits(np.log(np.array([[0.6, 0.4], [0.6, 0.4]])), [0, 1], [Place(0, 0, 0), Place(1, 0, 0)])
    true = pairs.of_true_label
    assert true.confidence == pytest.approx([0.6, 0.4]) and true.correct.tolist() == [True, False]
