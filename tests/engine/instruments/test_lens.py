"""The lens on the last block is the model's own head, whatever a family does behind its unembedding."""

import pytest
import torch
from tiny import FAMILIES, SHAPE, built, gemma2, llama, prompt
from torch import nn
from transformers import CohereConfig, GraniteConfig, PhiConfig

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.instruments.prompt_scores import final_residual
from tui_entropy.engine.instruments.residual import residual_instrument
from tui_entropy.engine.instruments.unembed import unembed

HEADS = {
    **FAMILIES,
    "granite, a divisor": lambda: built(GraniteConfig(**SHAPE, logits_scaling=3.0)),
    "cohere, a factor": lambda: built(CohereConfig(**SHAPE, logit_scale=0.3)),
    "phi, a bias": lambda: built(PhiConfig(**SHAPE)),
}


@pytest.mark.parametrize("build", HEADS.values(), ids=HEADS)
@torch.inference_mode()
def test_the_last_block_read_through_the_lens_says_exactly_what_the_model_says(build):
    model, ids = build(), prompt(9)
    architecture = architecture_of(model)
    with final_residual(architecture) as held:
        own = model(input_ids=ids).logits[0]
    found = unembed(model, architecture, held.residual)
    assert found.shape == (9, architecture.vocab) and found.dtype == torch.float32
    assert torch.equal(found, own)
    torch.testing.assert_close(unembed(model, architecture, held.residual[4:5]), own[4:5], atol=2e-6, rtol=0)


@torch.inference_mode()
def test_every_block_is_read_as_norm_unembedding_and_cap_say():
    model, ids = gemma2(), prompt(9)
    architecture = architecture_of(model)
    with residual_instrument(architecture) as probe:
        model(input_ids=ids)
    residual = probe.stream()
    plain = architecture.final_norm(residual).double() @ architecture.unembedding.weight.double().T
    torch.testing.assert_close(
        unembed(model, architecture, residual).double(), 5 * torch.tanh(plain / 5), atol=1e-5, rtol=0
    )


@torch.inference_mode()
def test_half_precision_is_worked_on_as_the_model_does_and_comes_out_in_float32():
    model = llama().bfloat16()
    architecture = architecture_of(model)
    with final_residual(architecture) as held:
        own = model(input_ids=prompt(9)).logits[0]
    assert torch.equal(unembed(model, architecture, held.residual), own.float())


@torch.inference_mode()
def test_the_model_reads_on_as_before_and_a_forward_that_was_put_there_stays():
    model, ids = llama(), prompt(6)
    architecture, decoder = architecture_of(model), model.get_decoder()
    before = model(input_ids=ids).logits
    cache = new_cache(model, architecture)
    with final_residual(architecture) as held:
        model(input_ids=ids[:, :5], past_key_values=cache, use_cache=True)
    unembed(model, architecture, held.residual)
    assert cache.get_seq_length() == 5 and "forward" not in vars(decoder)
    torch.testing.assert_close(model(input_ids=ids[:, 5:], past_key_values=cache).logits[0, 0], before[0, 5])
    decoder.forward = own = decoder.forward
    unembed(model, architecture, held.residual)
    assert vars(decoder)["forward"] is own


def test_the_decoder_is_put_back_after_an_error():
    model = llama()
    architecture = architecture_of(model)
    model.lm_head = nn.Linear(7, 96)
    with pytest.raises(RuntimeError):
        unembed(model, architecture, torch.zeros(2, 32))
    assert "forward" not in vars(model.get_decoder())
