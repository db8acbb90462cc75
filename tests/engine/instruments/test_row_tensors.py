"""Many rows measured with few passes, against the same metrics one row at a time in the other way."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.engine.instruments.prompt_scores import PROMPT_METRICS
from tui_entropy.engine.instruments.step_tensors import RowTensors, StepTensors, computed
from tui_entropy.engine.instruments.tensor_metrics import CHUNK, two_largest

SIZES = (1, 2, 3, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 5 * CHUNK + 1, 7 * CHUNK - 3)


@given(st.sampled_from(SIZES), st.integers(0, 10**6), st.booleans())
def test_the_two_largest_are_those_of_a_sorted_row(k, seed, tied):
    noise = torch.Generator().manual_seed(seed)
    rows = torch.randint(-3, 3, (4, k), generator=noise).float() if tied else torch.randn(4, k, generator=noise)
    first, second = two_largest(rows)
    ranked = rows.sort(-1, descending=True).values
    assert torch.equal(first, ranked[:, 0])
    assert torch.equal(second, ranked[:, 1]) if k > 1 else bool(second.isnan().all())


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("kind", ["plain", "wide", "impossible", "certain", "alike"])
def test_every_metric_is_what_it_is_of_a_step(k, kind):
    rows = torch.randn(6, k, generator=torch.Generator().manual_seed(k))
    match kind:
        case "wide":
            rows *= 1e4
        case "impossible":
            rows[:, : k // 2] = -math.inf
        case "certain":
            rows[:, :-1] = -math.inf
        case "alike":
            rows[:] = 2.0
    tokens = torch.full((6,), k - 1)
    many = RowTensors(rows.clone(), tokens)
    for metric in PROMPT_METRICS:
        wanted = computed(metric, StepTensors(rows, token=tokens)).double()
        torch.testing.assert_close(
            computed(metric, many).double(), wanted, atol=3e-5, rtol=3e-5, equal_nan=True, msg=metric.name
        )


def test_what_is_no_number_is_none():
    for odd in (math.nan, math.inf):
        rows = torch.zeros(2, 600)
        rows[1, 5] = odd
        found = RowTensors(rows, torch.tensor([0, 0])).entropy
        assert found[0] == pytest.approx(math.log(600)) and bool(found[1].isnan())
