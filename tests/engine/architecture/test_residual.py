from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, gemma3n, llama, prompt

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.instruments.residual import block_stats, residual_instrument


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return FAMILIES[request.param]()


@torch.inference_mode()
def test_mean_std_and_norm_are_those_of_the_hidden_states_at_the_newest_position(model):
    architecture, ids = architecture_of(model), prompt(9)
    cache = new_cache(model, architecture)
    with residual_instrument(architecture) as probe:
        for part in ids.split([6, 2, 1], 1):
            out = model(input_ids=part, past_key_values=cache, output_hidden_states=True)
            stats = block_stats(probe.stream())
            assert stats.shape == (architecture.n_layers, 3) and stats.dtype == torch.float32
            for (mean, std, norm), hidden in zip(stats[:-1], out.hidden_states[1:-1], strict=True):
                vector = hidden[0, -1].double()
                assert mean.item() == pytest.approx(vector.mean().item(), abs=1e-6)
                assert std.item() == pytest.approx(((vector - vector.mean()) ** 2).mean().sqrt().item(), rel=1e-5)
                assert norm.item() == pytest.approx((vector**2).sum().sqrt().item(), rel=1e-5)
            # The last of the hidden states has been through the final norm; what the last block put out has not.
            normed = architecture.final_norm(probe.vectors[-1][0, 0])
            torch.testing.assert_close(normed, out.hidden_states[-1][0, -1])
            assert stats[-1, 2].item() == pytest.approx(probe.vectors[-1][0, 0].norm().item(), rel=1e-5)


@torch.inference_mode()
def test_what_steering_adds_is_in_and_the_hooks_are_gone_afterwards():
    model = llama()
    architecture = architecture_of(model)
    with residual_instrument(architecture) as probe:
        model(input_ids=prompt(3))
        before = block_stats(probe.stream())
        steering = architecture.blocks[1].register_forward_hook(lambda block, args, output: output + 10, prepend=True)
        model(input_ids=prompt(3))
        after = block_stats(probe.stream())
        steering.remove()
    assert torch.equal(after[0], before[0])
    assert (after[1, 0] - before[1, 0]).item() == pytest.approx(10, abs=1e-4)
    assert not any(block._forward_hooks for block in architecture.blocks)


@torch.inference_mode()
def test_a_block_that_returns_a_tuple_is_read_at_its_first_entry():
    class Block(torch.nn.Module):
        def forward(self, hidden):
            return hidden, "its cache"

    block = Block()
    with residual_instrument(replace(architecture_of(llama()), blocks=(block,), n_layers=1)) as probe:
        block(torch.tensor([[[9.0, 9.0], [3.0, -3.0]]], dtype=torch.bfloat16))
        assert block_stats(probe.stream()).tolist() == [[0, 3, pytest.approx(18**0.5)]]


@torch.inference_mode()
def test_a_long_prompt_is_not_held_by_its_newest_vector():
    model = llama()
    with residual_instrument(architecture_of(model)) as probe:
        model(input_ids=prompt(200))
        assert all(vector.untyped_storage().nbytes() == 32 * 4 for vector in probe.vectors)


@torch.inference_mode()
@pytest.mark.parametrize("n", [1, 5])
def test_of_several_streams_it_is_the_one_that_blocks_compute_from(n):
    model = gemma3n()
    architecture, seen = architecture_of(model), []
    for block in architecture.blocks:
        block.register_forward_hook(lambda block, args, output: seen.append(output))
    with residual_instrument(architecture) as probe:
        model(input_ids=prompt(n))
    assert all(streams.shape == (4, 1, n, architecture.d_model) for streams in seen)
    assert torch.equal(probe.stream(), torch.stack([streams[architecture.stream, 0, -1] for streams in seen]))
