"""Metrics against closed forms, independent references, and the laws of entropy."""

from __future__ import annotations

import math

import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tui_entropy.engine.instruments.step_tensors import StepTensors, computed
from tui_entropy.engine.instruments.tensor_metrics import (
    disagreement,
    entropy,
    interaction_strength,
    js,
    kl,
    log_probs,
    margins,
    normalised_entropy,
    perplexity,
    rank,
    row_moments,
    spread,
    surprisal,
    surprisal_moments,
)
from tui_entropy.metrics.registry import BY_NAME

NUMBERS = st.floats(-50, 50, width=32)
LOGITS = arrays("float32", st.integers(1, 40), elements=NUMBERS).map(torch.from_numpy)
PAIRS = arrays("float32", st.tuples(st.just(2), st.integers(1, 40)), elements=NUMBERS).map(torch.from_numpy)
HEADS = arrays("float32", st.tuples(st.integers(1, 6), st.integers(1, 20)), elements=NUMBERS).map(torch.from_numpy)
HUGE = float(torch.finfo(torch.float32).max)
EDGES = {
    "one-hot": [0.0, -math.inf, -math.inf],
    "one possible beside an unlikely": [-math.inf, -math.inf, -200.0],
    "equal": [3.0, 3.0, 3.0, 3.0],
    "equal and huge": [1e30, 1e30],
    "largest": [HUGE, HUGE, -HUGE, 0.0],
    "far apart": [1e30, -1e30, 0.0],
    "half impossible": [1.0, -math.inf, 1.0, -math.inf],
    "one token": [7.0],
    "one huge token": [-HUGE],
}


def entropy_and_varentropy(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return surprisal_moments(log_probs(logits))


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


@pytest.mark.parametrize("logits", EDGES.values(), ids=EDGES)
def test_edges_give_numbers(logits: list[float]) -> None:
    row, uniform = torch.tensor(logits), torch.zeros(len(logits))
    logp, logq = log_probs(row), log_probs(uniform)
    h, v = surprisal_moments(logp)
    n_best = sum(x == max(logits) for x in logits)
    assert h.item() == pytest.approx(math.log(n_best), abs=1e-6) and v.item() == pytest.approx(0, abs=1e-6)
    assert entropy(logp).item() == pytest.approx(h.item(), abs=1e-6)
    assert uniform_kl(row).item() == pytest.approx(math.log(len(logits) / n_best), abs=1e-6)
    assert kl(logp, logq).item() == pytest.approx(math.log(len(logits) / n_best), abs=1e-6)
    assert kl(logp, logp).item() == js(logp, logp).item() == 0
    assert 0 <= js(logp, logq).item() <= math.log(2) + 1e-7
    assert rank(row, row.argmax()).item() == 1
    assert surprisal(logp, row.argmax()).item() == pytest.approx(math.log(n_best), abs=1e-6)
    finite = row.clamp(min=-1e30)  # as the probe gives scores: hidden keys are finite
    torch.testing.assert_close(row_moments(finite), (h, v))
    logit_margin, prob_margin = margins(logp)
    assert not logit_margin.isinf() and not prob_margin.isinf()
    assert prob_margin.isnan() == (len(logits) == 1)
    if n_best > 1:
        assert logit_margin.item() == prob_margin.item() == 0


def test_margins_are_of_the_two_most_probable() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.5, -math.inf], [0.0, 0.0, -9.0, -9.0]])
    logit_margin, prob_margin = margins(log_probs(logits))
    assert logit_margin.tolist() == pytest.approx([1.5, 0])
    z = math.exp(1) + math.exp(4) + math.exp(2.5)
    assert prob_margin.tolist() == pytest.approx([(math.exp(4) - math.exp(2.5)) / z, 0])


def test_a_margin_without_a_second_token_is_unknown() -> None:
    alone = margins(log_probs(torch.tensor([3.0])))
    assert alone[0].isnan() and alone[1].isnan()
    certain = margins(log_probs(torch.tensor([3.0, -math.inf])))
    assert certain[0].isnan() and certain[1].item() == 1


@given(PAIRS)
def test_kl_and_js_agree_with_scipy_and_keep_their_laws(pair: torch.Tensor) -> None:
    logp, logq = log_probs(pair)
    p, q = pair.double().softmax(-1).numpy()
    assert kl(logp, logq).item() == pytest.approx(float(scipy.stats.entropy(p, q)), rel=1e-4, abs=1e-4)
    root = float(scipy.spatial.distance.jensenshannon(p, q))
    assert js(logp, logq).item() == pytest.approx(0.0 if math.isnan(root) else root**2, abs=1e-4)
    assert kl(logp, logq).item() >= 0
    assert js(logp, logq).item() == pytest.approx(js(logq, logp).item(), abs=1e-6)
    assert 0 <= js(logp, logq).item() <= math.log(2) + 1e-7
    if abs(p - q).sum() > 0.01:
        assert kl(logp, logq).item() > 0 and js(logp, logq).item() > 0  # by Pinsker's inequality


def test_kl_is_infinite_where_the_second_has_no_room_and_js_is_not() -> None:
    logp, logq = log_probs(torch.tensor([0.0, 0.0, -math.inf])), log_probs(torch.tensor([0.0, -math.inf, 0.0]))
    assert kl(logp, logq).item() == math.inf
    assert js(logp, logq).item() == pytest.approx(math.log(2) / 2)
    apart = log_probs(torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]]))
    assert js(apart[0], apart[1]).item() == pytest.approx(math.log(2))


def uniform_kl(logits: torch.Tensor) -> torch.Tensor:
    return computed(BY_NAME["uniform kl"], StepTensors(logits))


@given(LOGITS)
def test_uniform_kl_is_the_divergence_from_the_uniform(logits: torch.Tensor) -> None:
    logp = log_probs(logits)
    assert uniform_kl(logits).item() == pytest.approx(kl(logp, log_probs(torch.zeros_like(logits))).item(), abs=1e-4)


def test_perplexity_is_the_number_of_equal_choices_and_always_a_number() -> None:
    assert perplexity(math.log(32)) == pytest.approx(32)
    assert perplexity(0.0) == 1
    assert math.isfinite(perplexity(1e30)) and math.isfinite(perplexity(math.inf))


def test_normalised_entropy_is_a_share_of_ln_n_and_unknown_of_one() -> None:
    found = normalised_entropy(torch.tensor([0.0, math.log(2), math.log(4), 2.0]), 4)
    assert found.tolist() == pytest.approx([0, 0.5, 1, 1])
    per_row = normalised_entropy(torch.tensor([[0.5, 0.5], [0.0, 0.0]]), torch.tensor([[4], [1]]))
    assert per_row[0].tolist() == pytest.approx([0.5 / math.log(4)] * 2) and per_row[1].isnan().all()


@given(HEADS, st.floats(-30, 30))
def test_moments_of_rows_are_those_of_their_softmax_wherever_the_scores_lie(
    scores: torch.Tensor, shift: float
) -> None:
    h, v = row_moments(scores)
    wanted_h, wanted_v = surprisal_moments(log_probs(scores.double()))
    torch.testing.assert_close(h, wanted_h, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(v, wanted_v, atol=1e-4, rtol=1e-4)
    hidden = torch.cat([scores + shift, torch.full((len(scores), 3), -1e30)], -1)
    torch.testing.assert_close(row_moments(hidden, hidden.softmax(-1)), (h, v), atol=1e-3, rtol=1e-3)


@given(HEADS)
def test_disagreement_is_the_mean_total_variation_to_the_mean_row(scores: torch.Tensor) -> None:
    weights = scores.softmax(-1)
    found = disagreement(weights).item()
    # Total variation is also the largest difference that any set of keys shows, which is where one row has more.
    middle = weights.mean(0)
    assert found == pytest.approx(float((weights - middle).clamp(min=0).sum(-1).mean()), abs=1e-5)
    assert 0 <= found <= 1 - 1 / len(weights) + 1e-6
    assert disagreement(weights[:1].expand(5, -1)).item() == pytest.approx(0, abs=1e-6)


def test_heads_that_look_at_different_keys_disagree_as_much_as_they_can() -> None:
    assert disagreement(torch.eye(4)).item() == pytest.approx(0.75)
    assert disagreement(torch.eye(4).expand(3, 4, 4)).tolist() == pytest.approx([0.75] * 3)


def test_spread_is_a_population_variance_and_interaction_a_mean_of_sizes() -> None:
    assert spread(torch.tensor([[1.0, 3.0], [2.0, 2.0]])).tolist() == [1, 0]
    assert spread(torch.tensor([5.0])).item() == 0
    assert interaction_strength(torch.tensor([[[1.0, -3.0], [0.0, 4.0]], [[-1.0] * 2] * 2])).tolist() == [2, 1]
