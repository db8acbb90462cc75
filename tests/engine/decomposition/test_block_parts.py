"""x + a + f = y in every kind of block, and each part is what the family's own modules put into the sum."""

import families
import pytest
import torch
from tiny import built, llama, prompt
from transformers import GraniteConfig

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.decomposition.block_parts import Undivided, watching_blocks
from tui_entropy.engine.decomposition.residual_stream import watching_stream
from tui_entropy.engine.decomposition.shares import share_of_added, shares
from tui_entropy.engine.steering.hooks import steering

DIVIDED = {
    "llama": "af", "gpt2": "af", "gemma2": "af", "gemma3_text": "af", "gemma4_text": "af", "olmo2": "af",
    "olmo3": "af", "granite": "af", "cohere": "af", "phi": "af", "gpt_neox": "af", "falcon": "af", "bloom": "af",
    "opt": "af",
    "mixtral": "af", "gpt_oss": "af", "deepseek_v3": "af", "longcat_flash": "af", "qwen3_5_text": "af",
    "bamba": "af",
    "jamba": "af", "falcon_h1": "af", "recurrent_gemma": "af", "xlstm": "af", "mamba": "a", "nemotron_h": "afaf",
}  # fmt: skip
"""Family -> the parts that its blocks have, of one or of all in turn: a for attention, f for feed-forward."""
ADDED_ELSEWHERE = ("bert", "openai-gpt", "gemma3n_text")
"""Blocks that norm their sum, or several streams."""


def named(family):
    if family == "granite":  # its multiplier is 1 by default
        return built(GraniteConfig(**families.small(GraniteConfig) | {"residual_multiplier": 0.3}))
    return families.built(family)


def watched(model, n=4, n_tokens=9):
    """The parts, what blocks were given and put out, and what each module put out, at the newest positions."""
    architecture = architecture_of(model)
    outputs = {}
    hooks = [
        module.register_forward_hook(
            lambda module, args, output: outputs.update({module: output if torch.is_tensor(output) else output[0]})
        )
        for block in architecture.blocks
        for module in block.modules()
    ]
    with (
        torch.inference_mode(),
        watching_stream(architecture, n) as stream,
        watching_blocks(architecture, n) as watch,
    ):
        model(input_ids=prompt(n_tokens))
    for hook in hooks:
        hook.remove()
    return architecture, watch.parts(), stream.stream(), outputs


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("family", DIVIDED)
def test_the_parts_of_each_block_add_up_to_what_it_puts_out(family):
    model = named(family)
    architecture, parts, stream, _ = watched(model)
    assert len(parts) == architecture.n_layers
    for index, part in enumerate(parts):
        added = [one for one in (part.attention, part.feed_forward, part.other) if one is not None]
        close(sum(added, part.stream), part.output)
        assert part.other is None and part.output.shape == (4, architecture.d_model)
        if index + 1 < architecture.n_layers:
            assert torch.equal(part.output, stream[index + 1])
        if family not in ("gemma4_text",):  # which scales what it was given with all the rest
            close(part.stream, stream[index].float())
        assert all(float(one.abs().max()) > 0 for one in added)
    found = ["a" * (part.attention is not None) + "f" * (part.feed_forward is not None) for part in parts]
    wanted = DIVIDED[family]
    assert "".join(found) == (wanted if family == "nemotron_h" else wanted * architecture.n_layers)


def newest(tensor, n=4):
    return tensor.reshape(-1, tensor.shape[-1])[-n:].float()


OF_MODULES = {
    "llama": (lambda block: block.self_attn, lambda block: block.mlp, 1.0),
    "gemma2": (lambda block: block.post_attention_layernorm, lambda block: block.post_feedforward_layernorm, 1.0),
    "olmo2": (lambda block: block.post_attention_layernorm, lambda block: block.post_feedforward_layernorm, 1.0),
    "granite": (lambda block: block.self_attn, lambda block: block.mlp, 0.3),
    "gpt_neox": (lambda block: block.attention, lambda block: block.mlp, 1.0),
    "cohere": (lambda block: block.self_attn, lambda block: block.mlp, 1.0),
    "gpt2": (lambda block: block.attn, lambda block: block.mlp, 1.0),
    "mixtral": (lambda block: block.self_attn, lambda block: block.mlp, 1.0),
    "qwen3_5_text": (
        lambda block: getattr(block, "linear_attn", None) or block.self_attn, lambda block: block.mlp, 1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", OF_MODULES)
def test_each_part_is_what_its_module_put_into_the_sum_behind_norms_and_factors(family):
    attention, feed_forward, factor = OF_MODULES[family]
    architecture, parts, _, outputs = watched(named(family))
    for block, part in zip(architecture.blocks, parts, strict=True):
        close(part.attention, newest(outputs[attention(block)]) * factor)
        close(part.feed_forward, newest(outputs[feed_forward(block)]) * factor)


@pytest.mark.parametrize("family", ADDED_ELSEWHERE)
def test_blocks_that_do_not_only_add_say_so(family):
    architecture = architecture_of(model := families.built(family))
    with torch.inference_mode(), watching_blocks(architecture, 2) as watch:
        model(input_ids=prompt(5))
    with pytest.raises(Undivided, match=r"normed or mixed|several side by side"):
        watch.parts()


def test_steering_is_a_part_of_its_own():
    model = llama()
    architecture, push = architecture_of(model), torch.randn(32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), steering(architecture) as steered, watching_blocks(architecture, 3) as watch:
        steered.set({2: push})
        model(input_ids=prompt(6))
    first, second, *_ = watch.parts()
    assert first.other is None
    close(second.other, push.expand(3, -1))
    close(second.stream + second.attention + second.feed_forward + push, second.output)


def test_positions_of_several_passes_are_joined_the_oldest_first():
    model, ids = llama(), prompt(9)
    architecture = architecture_of(model)
    _, whole, stream, _ = watched(model, n=5)
    cache = new_cache(model, architecture)
    with torch.inference_mode(), watching_stream(architecture, 5) as again, watching_blocks(architecture, 5) as watch:
        for first, last in ((0, 5), (5, 8), (8, 9)):
            model(input_ids=ids[:, first:last], past_key_values=cache, use_cache=True)
    close(again.stream(), stream)
    for one, other in zip(watch.parts(), whole, strict=True):
        close(one.attention, other.attention)
        close(one.output, other.output)


def test_a_model_is_left_as_it_was_also_by_a_pass_that_fails():
    model = llama()
    architecture = architecture_of(model)
    model.model.layers[1].mlp.forward = lambda hidden: 1 / 0
    with pytest.raises(ZeroDivisionError), watching_blocks(architecture, 2), torch.inference_mode():
        model(input_ids=prompt(5))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.overrides._get_current_function_mode() is None


def test_shares_by_length_and_by_kl_of_the_hidden_dimension():
    stream, added = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 15.0]])
    assert share_of_added(stream, added, "norm", lambda one: one).item() == pytest.approx(0.75)
    assert share_of_added(stream, None, "norm", lambda one: one).item() == 0
    sums = [torch.softmax(one.double(), -1) for one in (stream + added, stream, added)]
    d_stream, d_added = (float((sums[0] * (sums[0] / one).log()).sum()) for one in sums[1:])
    found = share_of_added(stream, added, "kl", lambda one: one).item()
    assert found == pytest.approx(d_stream / (d_stream + d_added), rel=1e-4)
    _, parts, _, _ = watched(llama())
    for how in ("norm", "kl"):
        assert all(
            0 <= float(share) <= 1 for part in parts for both in shares(part, how, lambda one: one) for share in both
        )
