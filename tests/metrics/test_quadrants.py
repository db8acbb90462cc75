"""The quadrants: which thresholds decide, in the bits of their source."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.metrics.entropix import (
    HIGH,
    LN2,
    LOW,
    QUADRANTS,
    THRESHOLDS,
    WARM_UP,
    own_thresholds,
    quadrant,
    quantile,
)

CASES = [
    # variant, entropy and varentropy in bits, attention entropy and its spread in bits, expected
    ("S1", 0.05, 0.05, None, None, "flowing"),
    ("S1", 3.5, 0.05, None, None, "asking"),
    ("S1", 2.5, 0.05, None, None, "adaptive"),
    ("S1", 4.0, 6.0, None, None, "exploring"),
    ("S1", 6.0, 6.0, None, None, "resampling"),
    ("S1", 2.0, 2.0, None, None, "adaptive"),
    ("S3", 0.5, 0.3, 0.5, 0.2, "flowing"),
    ("S3", 0.5, 0.3, 1.5, 0.2, "adaptive"),
    ("S3", 3.0, 0.3, 0.5, 0.2, "asking"),
    ("S3", 1.0, 2.0, 0.5, 0.9, "exploring"),
    ("S3", 1.0, 2.0, 0.5, 0.5, "adaptive"),
    ("S3", 2.0, 2.0, 2.5, 0.9, "resampling"),
    ("S3", 2.0, 2.0, None, None, "exploring"),
    ("S3", 2.6, 2.0, None, None, "resampling"),
]


@pytest.mark.parametrize(("variant", "entropy", "varentropy", "attention", "spread", "expected"), CASES)
def test_a_quadrant_follows_from_its_thresholds(variant, entropy, varentropy, attention, spread, expected):
    looked = (None, None) if attention is None else (attention * LN2, spread * LN2**2)
    assert quadrant(THRESHOLDS[variant], entropy * LN2, varentropy * LN2**2, *looked) == expected
    assert expected in QUADRANTS


def test_own_thresholds_wait_until_they_have_seen_enough():
    assert own_thresholds([1.0] * (WARM_UP - 1), [1.0] * (WARM_UP - 1)) is None


@given(st.lists(st.floats(0, 12), min_size=WARM_UP, max_size=300))
def test_own_thresholds_are_quantiles(values):
    own = own_thresholds(values, [value / 2 for value in values])
    low, high = np.quantile(values, [LOW, HIGH])
    assert own is not None
    assert (own.entropy_low, own.entropy_high) == pytest.approx((low, high))
    assert (own.varentropy_low, own.varentropy_high) == pytest.approx((low / 2, high / 2))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_numpys(values, share):
    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), rel=1e-9, abs=1e-6)
