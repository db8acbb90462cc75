"""Temperature scaling: the temperature that logits were multiplied by comes back, against scipy's minimum."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from tui_entropy.engine.calibration.temperature import LEAST, fit_temperature


def drawn(n, classes, seed, sure=1.0):
    """Logits, and classes drawn from their softmax; the logits are then `sure` times as large."""
    draws = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=draws)
    came = torch.multinomial(logits.softmax(-1), 1, generator=draws)[:, 0]
    return logits * sure, came


def fitted(logits, came, n_slices=3):
    return fit_temperature(lambda: zip(logits.tensor_split(n_slices), came.tensor_split(n_slices), strict=True))


@given(st.floats(0.2, 5.0), st.integers(0, 5))
def test_logits_that_are_too_sure_need_just_that_temperature(sure, seed):
    logits, came = drawn(300, 7, seed)
    one, other = fitted(logits, came), fitted(logits * sure, came)
    assert other.temperature == pytest.approx(one.temperature * sure, rel=1e-4)
    assert other.after == pytest.approx(one.after, rel=1e-6) and other.after <= other.before + 1e-9


def test_it_is_the_minimum_that_scipy_finds():
    logits, came = drawn(500, 11, 3, sure=2.5)

    def nll(t):
        return float(-(logits.double() / t).log_softmax(-1)[range(500), came].mean())

    best = minimize_scalar(nll, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-9})
    found = fitted(logits, came)
    assert found.temperature == pytest.approx(best.x, rel=1e-4) == pytest.approx(2.5, rel=0.2)
    assert (found.before, found.after) == pytest.approx((nll(1.0), best.fun), rel=1e-9)


def test_one_who_is_always_right_wants_to_be_as_sure_as_can_be():
    logits = torch.eye(5)
    assert fitted(logits, torch.arange(5)).temperature == pytest.approx(LEAST, rel=0.01)


def test_classes_that_are_not_there_change_nothing():
    logits, came = drawn(100, 4, 1)
    wider = torch.cat([logits, torch.full((100, 3), -torch.inf)], 1)
    assert fitted(wider, came) == pytest.approx(fitted(logits, came))
