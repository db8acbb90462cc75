"""What is kept beside the text comes to no more than its bound, and is found by what it is and not by whose it is."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from tui_entropy.engine.cache.prefix_cache import PrefixCache

PER_TOKEN = 2 * 2 * 3 * 4 * 4
"""Bytes of keys and values: rows, heads, width, float32."""


def columns(n, rows=2):
    return {0: (torch.randn(rows, 3, n, 4), torch.randn(rows, 3, n, 4))}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12)), max_size=12), st.integers(0, 30))
def test_it_never_exceeds_its_bound_and_has_the_newest(tails, room):
    kept = PrefixCache(room * PER_TOKEN)
    for nth, (first, n) in enumerate(tails):
        prefix_ids = range(100 * nth, 100 * nth + n)
        kept.put_segment(first, prefix_ids, columns(n))
        assert kept.bytes <= kept.bound
        context = [-1] * first + list(prefix_ids)
        assert (kept.segment(first, context, 1000) is not None) == (n <= room)


def test_what_was_used_last_goes_last():
    kept = PrefixCache(20 * PER_TOKEN)
    for nth in range(2):
        kept.put_segment(0, range(100 * nth, 100 * nth + 10), columns(10))
    assert kept.segment(0, range(10), 99)
    kept.put_segment(0, range(200, 210), columns(10))
    assert kept.segment(0, range(10), 99) and not kept.segment(0, range(100, 110), 99)


def test_a_tail_is_found_from_any_of_its_tokens_on_as_far_as_the_stamps_agree():
    kept = PrefixCache(1 << 20)
    whole = columns(10)
    kept.put_segment(5, range(10), whole)
    context = [-1, -2, -3, -4, -5, 0, 1, 2, 3, 77, 78]
    assert kept.segment(4, context, 99) is None and kept.segment(9, context, 99) is None
    found, last = kept.segment(6, context, 99)
    assert last == 9 and torch.equal(found[0][0], whole[0][0][..., 1:4, :])
    assert kept.segment(6, context, 8)[1] == 8
    whole[0][0].zero_()
    assert found[0][0].any()


def test_what_the_cache_has_again_is_let_go_and_what_belongs_to_nobody_is_dropped():
    kept = PrefixCache(1 << 20)
    kept.put_segment(0, range(10), columns(10))
    kept.put_segment(2, [50, 51], columns(2))
    kept.release(9, range(20))
    assert len(kept) == 2
    kept.release(10, range(20))
    assert len(kept) == 1 and kept.bytes == 2 * PER_TOKEN
    kept.drop({50, 51})
    assert kept.bytes == 2 * PER_TOKEN
    kept.drop({50})
    assert kept.bytes == PER_TOKEN and kept.segment(2, [0, 0, 50, 51], 9)[1] == 3
    kept.drop({1, 2})
    assert len(kept) == 0 == kept.bytes


def test_states_are_copies_and_the_newest_that_is_not_too_new_is_found():
    kept = PrefixCache(1 << 20)
    cache = DynamicCache()
    cache.update(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4), 0)
    for prefix_id in (3, 7):
        kept.put_state(prefix_id, cache)
        cache.update(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4), 0)
    position, states = kept.state(7, range(20))
    assert position == 4 and states[0].keys.shape[-2] == 1
    assert kept.state(8, range(20))[0] == 8 and kept.state(3, range(20)) is None
