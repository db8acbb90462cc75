"""A cache with room says the same as one that is copied for every token, and can be cropped and grown again."""

import psutil
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tui_entropy.engine.cache import kv_cache as roomy
from tui_entropy.engine.cache.kv_cache import PreallocatedCache, PreallocatedLayer


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-150, 300), min_size=1, max_size=10))
def test_it_holds_what_a_copied_one_holds_through_any_growth_and_crop(moves):
    ours, theirs = PreallocatedLayer(), DynamicLayer()
    noise = torch.Generator().manual_seed(0)
    for move in moves:
        if move > 0:
            key, value = torch.randn(2, 1, 2, move, 4, generator=noise)
            ours.update(key, value)
            theirs.update(key, value)
        elif theirs.get_seq_length() > -move:
            ours.crop(move)
            theirs.crop(move)
        assert ours.get_seq_length() == theirs.get_seq_length()
        if ours.is_initialized:
            assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


def test_a_token_is_written_in_place_while_there_is_room():
    layer = PreallocatedLayer()
    layer.update(*torch.randn(2, 1, 2, 5, 4))
    block = layer.keys.data_ptr()
    for _ in range(roomy.ROOM):
        layer.update(*torch.randn(2, 1, 2, 1, 4))
    assert layer.keys.data_ptr() == block
    layer.update(*torch.randn(2, 1, 2, 1, 4))
    assert layer.keys.data_ptr() != block and layer.keys.shape[-2] == roomy.ROOM + 6


def test_what_is_expected_has_its_room_from_the_first_token_on():
    cache = PreallocatedCache(expected=3 * roomy.ROOM)
    blocks = [cache.update(*torch.randn(2, 1, 2, roomy.ROOM, 4), 0)[0].data_ptr() for _ in range(4)]
    assert len(set(blocks[:3])) == 1 and blocks[3] != blocks[0]
    assert cache.get_seq_length() == 4 * roomy.ROOM


@pytest.mark.parametrize("family", ["llama", "gemma3", "gemma2", "gpt_oss", "gpt2"])
def test_a_model_gives_the_same_logits_and_a_step_back_gives_them_again(family):
    model = tiny.FAMILIES[family]()
    ids = tiny.prompt(14)
    with torch.inference_mode():
        ours, theirs = PreallocatedCache(), DynamicCache()
        for stretch in ids.split([9, 1, 1, 1, 2], dim=1):
            a = model(stretch, past_key_values=ours).logits[:, -1]
            b = model(stretch, past_key_values=theirs).logits[:, -1]
            assert torch.allclose(a, b, atol=1e-5)
        ours.crop(-2)
        again = model(ids[:, -2:], past_key_values=ours).logits[:, -1]
        assert torch.equal(again, a)


def test_a_room_takes_no_memory_before_it_is_filled():
    """Nor is a mistake made of its size: what it holds is counted, and what lies behind is zeros."""
    layer, new = PreallocatedLayer(expected=1 << 21), torch.ones(1, 1, 3, 8)
    before = psutil.Process().memory_info().rss
    keys, values = layer.update(new, new)
    assert psutil.Process().memory_info().rss - before < 16 << 20 < layer._rooms[0].nbytes
    assert torch.equal(keys, new) and torch.equal(values, new) and not layer._rooms[0][..., 3:1000, :].any()
