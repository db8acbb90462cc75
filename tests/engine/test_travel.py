"""Going back: a step that is visited again, and texts that take turns in one cache."""

import pytest
import tiny
import torch
from small import loaded as small_model

from tui_entropy.engine import decode as loop
from tui_entropy.engine.decode import Context, Controls, decode, instruments, passed
from tui_entropy.engine.travel import Travel
from tui_entropy.records import Knobs

PROMPT = tiny.prompt(12)[0].tolist()
DRAWN = Controls(Knobs(temperature=1.0, top_k=0, seed=3), {})


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def loaded(request):
    found = small_model(request.param)
    object.__setattr__(found.codec, "eos_ids", frozenset())  # random weights may say the end token at any time
    return found


def passes(travel, context, controls, monkeypatch):
    """Write to the end. Of each step what its forward pass left behind."""
    told = []
    monkeypatch.setattr(loop, "passed", lambda *args: told.append(passed(*args)) or told[-1])
    for _ in decode(travel.loaded, travel.probes, context, lambda: controls):
        travel.checkpoint()
    return told


def same(one, two):
    assert torch.equal(one.logits, two.logits)
    assert one.visible_keys == two.visible_keys
    for a, b in zip((*one.attention, one.residual), (*two.attention, two.residual), strict=True):
        assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))


def test_a_revisit_sees_to_the_bit_what_was_seen_and_leaves_no_trace(loaded, monkeypatch):
    with instruments(loaded) as probes:
        context = Context(loaded, PROMPT, 40)
        travel = Travel(loaded, probes, bound=1 << 20)
        travel.seat(context)
        told = passes(travel, context, DRAWN, monkeypatch)
        keys = [layer.keys.clone() for layer in context.cache.layers if hasattr(layer, "keys")]
        kept = list(probes.attention.kept)
        for step in (39, 0, 20, 1, 38, 7):
            same(travel.revisit(context, context.n_prompt - 1 + step), told[step])
        assert list(probes.attention.kept) == kept and context.n_read == context.n_tokens - 1
        now = [layer.keys for layer in context.cache.layers if hasattr(layer, "keys")]
        assert all(torch.equal(a, b) for a, b in zip(keys, now, strict=True))
        same(passed(told[-1].logits, probes), told[-1])
