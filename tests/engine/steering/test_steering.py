"""Steering: what is added, where, from when on, and that nothing stays."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tui_entropy.engine.architecture.architecture import Architecture, architecture_of
from tui_entropy.engine.steering.hooks import steering

IDS = torch.tensor([[3, 1, 4, 1, 5]])


@pytest.fixture(params=["llama", "gpt2", "gemma3", "gpt_oss", "hybrid", "mixtral"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return tiny.FAMILIES[request.param]()


def hidden_states(model: PreTrainedModel) -> tuple[Tensor, ...]:
    """Embedding and block outputs as transformers' own recorder sees them; the last one is normed."""
    with torch.inference_mode():
        return tuple(model(IDS, output_hidden_states=True, use_cache=False).hidden_states)


def logits(model: PreTrainedModel) -> Tensor:
    with torch.inference_mode():
        out: Tensor = model(IDS, use_cache=False).logits
    return out


def test_a_push_is_added_at_every_position_of_its_block_and_only_there(model: PreTrainedModel) -> None:
    architecture = architecture_of(model)
    before = hidden_states(model)
    push = torch.linspace(-1, 1, architecture.d_model)
    with steering(architecture) as steer:
        steer.set({2: push})
        after = hidden_states(model)
    torch.testing.assert_close(after[1], before[1])
    torch.testing.assert_close(after[2], before[2] + push)
    assert not torch.allclose(after[3], before[3] + push)  # block 3 read it, not only passed it on


def test_the_model_is_left_as_it_was_found_even_by_an_exception(model: PreTrainedModel) -> None:
    before, architecture = logits(model), architecture_of(model)
    hooks = [list(block._forward_hooks.items()) for block in architecture.blocks]
    with pytest.raises(RuntimeError), steering(architecture) as steer:
        steer.set({1: torch.ones(architecture.d_model), 4: torch.ones(architecture.d_model)})
        assert not torch.equal(logits(model), before)
        raise RuntimeError
    assert torch.equal(logits(model), before)
    assert [list(block._forward_hooks.items()) for block in architecture.blocks] == hooks


def test_what_is_set_replaces_what_was_set() -> None:
    model = tiny.llama()
    architecture, before = architecture_of(model), logits(model)
    push = torch.ones(architecture.d_model)
    with steering(architecture) as steer:
        steer.set({1: push})
        once = logits(model)
        steer.set({1: push, 2: push})
        steer.set({1: push})
        assert torch.equal(logits(model), once)
        steer.set({})
        assert torch.equal(logits(model), before)
        assert not any(block._forward_hooks for block in architecture.blocks)


def test_it_acts_from_the_next_forward_pass_on() -> None:
    model = tiny.llama()
    architecture = architecture_of(model)
    seen: list[Tensor] = []
    with steering(architecture) as steer, torch.inference_mode():
        cache = model(IDS, use_cache=True).past_key_values
        handle = architecture.blocks[1].register_forward_hook(lambda block, args, output: seen.append(output))
        for offsets in ({}, {2: torch.ones(architecture.d_model)}):
            steer.set(offsets)
            model(torch.tensor([[7]]), past_key_values=cache)
            cache.crop(-1)
        handle.remove()
    torch.testing.assert_close(seen[1], seen[0] + 1)  # and a hook that was there first sees what block 3 is given


def test_a_push_takes_the_dtype_of_the_residual_stream() -> None:
    model = tiny.llama().bfloat16()
    architecture = architecture_of(model)
    with steering(architecture) as steer:
        steer.set({3: torch.ones(architecture.d_model, dtype=torch.float64)})
        assert {state.dtype for state in hidden_states(model)} == {torch.bfloat16}


class Doubling(nn.Module):
    """A block of the older kind, which returns a tuple."""

    def forward(self, hidden: Tensor) -> tuple[Tensor, str]:
        return hidden * 2, "weights"


def test_a_block_that_returns_a_tuple_keeps_the_rest_of_it() -> None:
    block = Doubling()
    architecture: Architecture = dataclasses.replace(architecture_of(tiny.llama()), blocks=(block,))
    with steering(architecture) as steer:
        steer.set({1: torch.tensor([1.0, 0.0])})
        hidden, rest = block(torch.tensor([[[1.0, 2.0]]]))
    assert hidden.tolist() == [[[3.0, 4.0]]]
    assert rest == "weights"
