"""Vectors read by either embedding, behind either part of the norm, against formulas over the weights themselves."""

import pytest
import torch
from tiny import SHAPE, built, gemma2, gpt2, llama
from transformers import LlamaConfig, OPTConfig

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.lenses.decoding import Decoding, Undecodable

VECTORS = torch.randn(5, 32, generator=torch.Generator().manual_seed(3)) * 4
DEPTH = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])


def decoding(model, decoder="output", norm="norm-and-scale"):
    return Decoding(model, architecture_of(model), decoder, norm)


def rms(vectors):
    return vectors / (vectors.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def both(model, vectors=VECTORS):
    """Logits by input and by output embedding."""
    normed = rms(vectors) * model.model.norm.weight
    return normed @ model.model.embed_tokens.weight.T, normed @ model.lm_head.weight.T


@torch.inference_mode()
@pytest.mark.parametrize(
    ("decoder", "share"),
    [("output", torch.ones(5)), ("input", torch.zeros(5)), ("linear", DEPTH), ("quadratic", DEPTH**2)],
)
def test_embeddings_are_mixed_by_depth(decoder, share):
    model = llama()
    by_input, by_output = both(model)
    wanted = (1 - share[:, None]) * by_input + share[:, None] * by_output
    torch.testing.assert_close(decoding(model, decoder).logits(VECTORS, DEPTH), wanted, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_surer_embedding_is_the_one_with_the_larger_probability():
    model = llama()
    found = decoding(model, "max").logits(VECTORS, DEPTH)
    ways = both(model)
    for row, one, other in zip(found, *ways, strict=True):
        surer = max((one, other), key=lambda logits: float(logits.softmax(-1).max()))
        torch.testing.assert_close(row, surer, rtol=1e-4, atol=1e-4)
    assert {bool(torch.allclose(row, one, atol=1e-3)) for row, one in zip(found, ways[0], strict=True)} == {
        True,
        False,
    }


@torch.inference_mode()
@pytest.mark.parametrize("decoder", ["input", "linear", "quadratic", "max"])
def test_with_one_embedding_for_both_every_decoder_says_the_same(decoder):
    model = built(LlamaConfig(**SHAPE, tie_word_embeddings=True))
    assert torch.equal(decoding(model, decoder).logits(VECTORS, DEPTH), decoding(model).logits(VECTORS, DEPTH))
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


@torch.inference_mode()
def test_the_head_is_given_back_its_own_embedding():
    model = llama()
    own = model.lm_head.weight
    decoding(model, "linear").logits(VECTORS, DEPTH)
    assert model.lm_head.weight is own


@torch.inference_mode()
@pytest.mark.parametrize("build", [llama, gemma2, gpt2])
def test_the_norm_is_left_out_or_has_no_weights(build):
    model = build()
    weight = model.get_output_embeddings().weight
    cap = (lambda logits: 5 * torch.tanh(logits / 5)) if build is gemma2 else (lambda logits: logits)
    plain = VECTORS - VECTORS.mean(-1, keepdim=True) if build is gpt2 else VECTORS
    for norm, normed in (("none", VECTORS), ("only-norm", rms(plain))):
        found = decoding(model, norm=norm).logits(VECTORS, DEPTH)
        torch.testing.assert_close(found, cap(normed @ weight.T), rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_iterative_tokens_are_those_of_what_is_left_when_embeddings_are_taken_off():
    """Three orthogonal embeddings added up are found one after the other, and then nothing is left."""
    model = llama()
    model.model.norm.weight.fill_(1.0)
    basis = torch.eye(32)
    model.lm_head.weight.copy_(torch.cat([basis, torch.zeros(64, 32)]))
    vector = (basis[7] * 1.0 + basis[3] * 0.9 + basis[21] * 0.8)[None]
    found = decoding(model).iterative(vector, torch.ones(1), 5)
    assert found[0][0] == 7 and found[0][:1] == [7]
    vector = (basis[7] + basis[3] + basis[21])[None]
    assert sorted(decoding(model).iterative(vector, torch.ones(1), 5)[0]) == [3, 7, 21]


@torch.inference_mode()
def test_an_embedding_of_another_shape_is_no_decoder_and_says_so():
    model = built(
        OPTConfig(
            vocab_size=96, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
            word_embed_proj_dim=16, max_position_embeddings=64,
        )
    )  # fmt: skip
    assert decoding(model).logits(VECTORS, DEPTH).shape == (5, 96)
    with pytest.raises(Undecodable, match="secondary=top-k"):
        decoding(model).iterative(VECTORS, DEPTH, 3)
