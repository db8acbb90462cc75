"""A stretch of text attends to all before it as with a mask of queries x keys."""

import pytest
import torch
from torch import nn
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from tui_entropy.engine.kernels import causal_sdpa

N_QUERIES, N_KEYS, WIDTH = 7, 19, 8


def asked(**more):
    known = {"batch_size": 1, "q_length": N_QUERIES, "kv_length": N_KEYS, "q_offset": N_KEYS - N_QUERIES}
    known |= {"kv_offset": 0, "mask_function": causal_mask_function, "attention_mask": None}
    return known | {"allow_is_causal_skip": True, "device": "cpu"} | more


def formula(query, key, value, scaling):
    """In float64, a matrix of queries x keys per head."""
    shared = query.shape[1] // key.shape[1]
    key, value = (part.double().repeat_interleave(shared, 1) for part in (key, value))
    scores = query.double() @ key.mT * scaling
    hidden = ~torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
    return (scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("dtype, apart", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("value_width", [WIDTH, WIDTH + 4])
@pytest.mark.parametrize("n_kv_heads", [6, 2])
@pytest.mark.parametrize("n_queries", [1, 2, N_QUERIES, N_KEYS])
def test_it_is_what_the_formula_with_a_mask_gives(n_queries, n_kv_heads, value_width, dtype, apart):
    noise = torch.Generator().manual_seed(0)
    query = torch.randn(2, 6, n_queries, WIDTH, generator=noise).to(dtype)
    key = torch.randn(2, n_kv_heads, N_KEYS, WIDTH, generator=noise).to(dtype)
    value = torch.randn(2, n_kv_heads, N_KEYS, value_width, generator=noise).to(dtype)
    module = nn.Module()
    module.num_key_value_groups = 6 // n_kv_heads
    found, weights = causal_sdpa.attend(module, query, key, value, None, scaling=0.5)
    assert weights is None and found.dtype is dtype
    torch.testing.assert_close(found.double(), formula(query, key, value, 0.5), atol=apart, rtol=0)


def test_a_mask_is_made_only_where_it_hides_more_than_what_comes_later():
    assert causal_sdpa.mask(**asked()) is None
    windowed = causal_sdpa.mask(**asked(mask_function=sliding_window_causal_mask_function(4), local_size=4))
    assert windowed is not None and windowed.shape == (1, 1, N_QUERIES, N_KEYS)
    padded = torch.ones(1, N_KEYS, dtype=torch.bool)
    padded[:, :3] = False
    assert causal_sdpa.mask(**asked(attention_mask=padded)) is not None
    assert causal_sdpa.mask(**asked(allow_is_causal_skip=False)) is not None
