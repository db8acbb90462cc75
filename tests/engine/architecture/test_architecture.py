import re

import families
import pytest
import torch
from tiny import FAMILIES, SHAPE, WINDOW, built, hybrid, llama, prompt
from transformers import BigBirdConfig, BloomConfig, Gemma3Config, LlamaModel

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.architecture import UNLIMITED, architecture_of
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.instruments.attention import attention_instrument
from tui_entropy.records.probes.attention_rows import RowWindow

KINDS = {
    "gemma3": ("sliding", "full", "sliding", "full"),
    "gemma2": ("sliding", "full", "sliding", "full"),
    "gpt_oss": ("sliding", "full", "sliding", "full"),
    "hybrid": ("linear", "full", "linear", "full"),
    "mistral": ("sliding",) * 4,
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param, FAMILIES[request.param]()


@torch.inference_mode()
def test_what_the_last_block_puts_out_becomes_the_logits_through_norm_and_unembedding(family):
    _, model = family
    architecture, outputs = architecture_of(model), []
    hook = architecture.blocks[-1].register_forward_hook(lambda block, args, output: outputs.append(output))
    logits = model(prompt(5)).logits
    hook.remove()
    lens = architecture.unembedding(architecture.final_norm(outputs[0]))
    if cap := getattr(model.config, "final_logit_softcapping", None):
        lens = cap * torch.tanh(lens / cap)
    torch.testing.assert_close(lens, logits)
    assert logits.shape[-1] == architecture.vocab and outputs[0].shape[-1] == architecture.d_model
    assert architecture.embedding(prompt(5)).shape == (1, 5, architecture.d_model)


def test_sizes_and_kinds_of_layers_are_those_of_the_config(family):
    name, model = family
    architecture = architecture_of(model)
    kinds = KINDS.get(name, ("full",) * 4)
    assert architecture.layer_kinds == kinds
    assert architecture.windows == tuple(WINDOW if kind == "sliding" else None for kind in kinds)
    assert architecture.attention == tuple(kind != "linear" for kind in kinds)
    assert (architecture.n_layers, architecture.n_heads, architecture.context) == (4, 4, 256)
    assert architecture.n_kv_heads == (4 if name == "gpt2" else 2)


@torch.inference_mode()
def test_a_new_cache_can_be_cropped_again_and_again_wherever_the_anatomy_says_so(family):
    _, model = family
    architecture, ids = architecture_of(model), prompt(3 * WINDOW)
    cache = new_cache(model, architecture)
    logits = [model(input_ids=ids[:, i : i + 1], past_key_values=cache).logits[0, -1] for i in range(ids.shape[1])]
    if not architecture.croppable:
        assert not cache.is_croppable
        return
    for back in (1, 5):
        cache.crop(-back)
        n = cache.get_seq_length()
        again = model(input_ids=ids[:, n : n + 1], past_key_values=cache).logits[0, -1]
        torch.testing.assert_close(again, logits[n], atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_multimodal_wrapper_is_looked_through_to_its_text_model():
    text = dict(SHAPE, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"] * 2)
    vision = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28)
    model = built(Gemma3Config(text_config=text, vision_config=vision | {"patch_size": 14}, mm_tokens_per_image=4))
    architecture = architecture_of(model)
    assert architecture.layer_kinds == ("sliding", "full", "sliding", "full") and architecture.d_model == 32
    with attention_instrument(model, architecture, keep=4) as probe:
        model(input_ids=prompt(WINDOW + 2), past_key_values=new_cache(model, architecture))
        assert probe.head_statistics().entropy.isfinite().all()
        assert probe.visible_keys() == (WINDOW, WINDOW + 2, WINDOW, WINDOW + 2)


@torch.inference_mode()
def test_a_model_whose_attention_cannot_be_watched_has_no_rows_but_runs():
    """BLOOM computes its attention by itself, and names no limit to its context."""
    model = built(BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=4))
    architecture = architecture_of(model)
    assert architecture.attention == (False, False) and architecture.context == UNLIMITED
    with attention_instrument(model, architecture, keep=4) as probe:
        model(input_ids=prompt(3), past_key_values=new_cache(model, architecture))
        assert probe.head_statistics().entropy.shape == (2, 4) and probe.head_statistics().entropy.isnan().all()
        assert probe.visible_keys() == (None, None) and probe.kept_bytes == 0


def refused(model, *words):
    with pytest.raises(UserError) as refusal:
        architecture_of(model)
    assert all(re.search(word, str(refusal.value)) for word in words), refusal.value


def test_a_model_that_cannot_write_or_does_not_fit_its_config_is_refused_in_a_sentence():
    model = llama()
    refused(LlamaModel(model.config), "LlamaModel", "language-model head", "load a causal")
    model.lm_head = torch.nn.Linear(7, 96)
    refused(model, "width 7", "says 32")
    model = hybrid()
    model.config.num_hidden_layers = 3
    refused(model, "4 blocks", "3 layers")
    model = llama()
    del model.model.norm
    refused(model, "does not read text", "no attribute 'norm'", "not supported")


@torch.inference_mode()
def test_block_sparse_attention_is_refused_since_a_token_of_a_long_text_sees_later_ones():
    config = BigBirdConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, block_size=4,
        is_decoder=True, num_random_blocks=1, max_position_embeddings=64, attention_type="block_sparse",
    )  # fmt: skip
    model, ids = built(config), prompt(64)
    refused(model, "BigBird", "block-sparse", "sees later ones", "attention_type")
    first, ids[0, -1] = model(ids).logits[0, 0], 5
    assert not torch.allclose(model(ids).logits[0, 0], first)
    assert (
        architecture_of(built(config.__class__(**config.to_dict() | {"attention_type": "original_full"}))).n_layers
        == 2
    )


def test_where_positions_turn_by_other_angles_the_context_ends():
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    long = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64} | factors
    assert architecture_of(llama(rope_parameters=long)).context == 64
    dynamic = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    assert architecture_of(llama(rope_parameters=dynamic)).context == llama().config.max_position_embeddings


def test_rows_of_heads_that_a_block_does_not_have_are_unknown():
    model = families.built("laguna")
    architecture = architecture_of(model)
    with torch.inference_mode(), attention_instrument(model, architecture, keep=4) as probe:
        cache = new_cache(model, architecture)
        model(input_ids=prompt(5), past_key_values=cache)
        known = probe.head_statistics().entropy.isfinite()
        rows = [probe.rows(cache, RowWindow(layer, 6, 4, 1, 0, 5)) for layer in (1, 2)]
    assert known.sum(-1).tolist() == [4, 8, 4, 8] and known[0, :4].all()
    assert rows[0].unavailable == "block 1 has 4 heads" and not rows[1].unavailable
