"""Metrics against closed forms, independent references, and the laws of entropy."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tui_entropy.engine.metrics import entropy, entropy_and_varentropy, log_probs, rank, surprisal, surprisal_moments

LOGITS = arrays("float32", st.integers(1, 40), elements=st.floats(-50, 50, width=32)).map(torch.from_numpy)


@pytest.mark.parametrize("n", [1, 2, 5, 49152])
def test_uniform_is_log_n_and_has_no_varentropy(n: int) -> None:
    h, v = entropy_and_varentropy(torch.full((n,), 3.0))
    assert h.item() == pytest.approx(math.log(n), abs=1e-5)
    assert v.item() == pytest.approx(0, abs=1e-5)


def test_two_outcomes_follow_the_closed_form() -> None:
    p, q = 0.917, 0.083
    h, v = entropy_and_varentropy(torch.tensor([p, q]).log())
    assert h.item() == pytest.approx(-p * math.log(p) - q * math.log(q), abs=1e-6)
    assert v.item() == pytest.approx(p * q * math.log(p / q) ** 2, abs=1e-6)
    assert v.item() / math.log(2) ** 2 == pytest.approx(0.9142, abs=1e-4)  # the largest two outcomes can have, bits²


@pytest.mark.parametrize(
    "logits",
    [[0.0, -math.inf, -math.inf], [3e38, -3e38, 0.0], [7.0], [1e4, 0.0, -1e4], [-math.inf, -math.inf, -200.0]],
)
def test_certainty_is_zero_not_nan(logits: list[float]) -> None:
    h, v = entropy_and_varentropy(torch.tensor(logits))
    assert (h.item(), v.item()) == (0.0, 0.0)
    assert math.copysign(1, h.item()) == 1  # not -0.0, which would be written so


def test_impossible_tokens_change_nothing() -> None:
    finite = torch.tensor([1.0, 2.0, -0.5])
    padded = torch.cat([finite, torch.full((5,), -math.inf)])
    torch.testing.assert_close(entropy_and_varentropy(padded), entropy_and_varentropy(finite))


def test_every_row_of_a_batch_is_its_own_and_half_precision_is_widened() -> None:
    rows = torch.randn(2, 3, 17, generator=torch.Generator().manual_seed(1)).bfloat16()
    h, v = entropy_and_varentropy(rows)
    assert h.dtype == v.dtype == torch.float32
    assert h.shape == v.shape == (2, 3)
    one_h, one_v = entropy_and_varentropy(rows[1, 2])
    assert (h[1, 2].item(), v[1, 2].item()) == pytest.approx((one_h.item(), one_v.item()))


@given(LOGITS)
def test_entropy_agrees_with_torch_distributions_and_scipy(logits: torch.Tensor) -> None:
    h = entropy(log_probs(logits)).item()
    exact = logits.double().softmax(-1)
    assert h == pytest.approx(torch.distributions.Categorical(logits=logits.double()).entropy().item(), abs=1e-4)
    assert h == pytest.approx(float(scipy.stats.entropy(exact.numpy())), abs=1e-4)


@given(LOGITS)
def test_varentropy_is_the_variance_of_the_surprisal(logits: torch.Tensor) -> None:
    _, v = entropy_and_varentropy(logits)
    p = logits.double().softmax(-1)
    surprisals = -logits.double().log_softmax(-1)
    expected = (p * surprisals**2).sum() - (p * surprisals).sum() ** 2
    assert v.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)


@given(LOGITS, st.floats(-100, 100), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_bounds_shift_and_permutation(logits: torch.Tensor, shift: float, random) -> None:  # type: ignore[no-untyped-def]
    h, v = entropy_and_varentropy(logits)
    assert 0 <= h.item() <= math.log(len(logits)) + 1e-5
    assert v.item() >= 0
    order = list(range(len(logits)))
    random.shuffle(order)
    for same in (logits + shift, logits[order]):
        h2, v2 = entropy_and_varentropy(same)
        assert h2.item() == pytest.approx(h.item(), abs=1e-3)
        assert v2.item() == pytest.approx(v.item(), rel=1e-3, abs=1e-3)


def test_entropy_is_the_mean_of_the_surprisal_of_draws() -> None:
    logp = log_probs(torch.tensor([0.3, 1.2, -2.0, 0.0]))
    per_token = surprisal(logp.expand(4, 4), torch.arange(4))
    assert (logp.exp() * per_token).sum().item() == pytest.approx(entropy(logp).item(), abs=1e-6)
    torch.testing.assert_close(surprisal_moments(logp)[0], entropy(logp))


def test_rank_counts_the_strictly_better() -> None:
    scores = torch.tensor([2.0, 5.0, 2.0, -math.inf, 9.0])
    assert [rank(scores, torch.tensor(i)).item() for i in range(5)] == [3, 2, 3, 5, 1]
    torch.testing.assert_close(rank(torch.stack([scores, -scores]), torch.tensor([4, 4])), torch.tensor([1, 5]))
