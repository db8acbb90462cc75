"""Products of many rows by oneDNN: the same up to rounding, and the layers are left as they were."""

import pytest
import torch
from tiny import llama, prompt
from torch import nn

from tui_entropy.engine.kernels.onednn_linear import PackedLinear, many_row_linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 64), (1, 1, 64), (3, 40, 64), (200, 64)])
@torch.inference_mode()
def test_products_are_the_same_up_to_rounding(shape, bias):
    layer = nn.Linear(64, 900, bias=bias)
    x = torch.randn(shape)
    plain = layer(x)
    with many_row_linear(layer):
        torch.testing.assert_close(layer(x), plain, atol=1e-5, rtol=1e-5)
    assert "forward" not in vars(layer) and torch.equal(layer(x), plain)


@torch.inference_mode()
def test_a_whole_model_says_the_same_and_one_in_half_precision_is_left_alone():
    model, ids = llama(), prompt(20)
    plain = model(input_ids=ids).logits
    with many_row_linear(model):
        torch.testing.assert_close(model(input_ids=ids).logits, plain, atol=1e-4, rtol=1e-4)
    half = nn.Linear(4, 4).bfloat16()
    with many_row_linear(half):
        assert "forward" not in vars(half)


@torch.inference_mode()
@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_that_is_laid_out_gives_the_products_of_the_layer_and_is_left_as_it_was(bias):
    torch.manual_seed(0)
    layer = torch.nn.Linear(48, 1000, bias=bias)
    packed = PackedLinear(layer)
    for n in (1, 7, 31):
        x = torch.randn(1, n, 48)
        for lay_out in (False, True):
            with packed.taking(lay_out):
                found = layer(x)
            assert found.shape == (1, n, 1000)
            torch.testing.assert_close(found, layer(x), atol=1e-5, rtol=1e-5)
        assert "forward" not in vars(layer)
    packed.release()
    other = torch.nn.Linear(48, 1000, dtype=torch.bfloat16)
    with PackedLinear(other).taking(lay_out=True):
        assert "forward" not in vars(other)
