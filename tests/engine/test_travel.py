"""Going back: a step that is visited again, and texts that take turns in one cache."""

import numpy as np
import pytest
import tiny
import torch
from small import loaded as small_model

from tui_entropy.engine.decode import Context, Controls, decode, instruments
from tui_entropy.engine.measure import believed, brought_over
from tui_entropy.engine.travel import Travel
from tui_entropy.records import Knobs, Step

PROMPT = tiny.prompt(12)[0].tolist()
DRAWN = Controls(Knobs(temperature=1.0, top_k=0, seed=3), {})


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def loaded(request):
    found = small_model(request.param)
    object.__setattr__(found.codec, "eos_ids", frozenset())  # random weights may say the end token at any time
    return found


def numbers(probes, context):
    """All that the loop makes of a forward pass, before it chooses."""
    probes.look_at(context)
    logp, belief = believed(context.logits, probes, 20)
    return [*logp.tolist(), *(x for part in brought_over(belief).values() for x in np.nan_to_num(part).tolist())]


def written(travel, context, controls):
    """Write to the end. Of each step what its forward pass left behind."""
    told = []
    for event in decode(travel.loaded, travel.probes, context, lambda: controls):
        travel.checkpoint()
        if isinstance(event, Step):
            told.append(numbers(travel.probes, context))
    return told


def keys(context):
    return [layer.keys.clone() for layer in context.cache.layers if hasattr(layer, "keys")]


def test_a_revisit_sees_to_the_bit_what_was_seen_and_leaves_no_trace(loaded):
    with instruments(loaded) as probes:
        context = Context(loaded, PROMPT, 40)
        travel = Travel(loaded, probes, bound=1 << 20)
        travel.seat(context)
        told = written(travel, context, DRAWN)
        held, before = list(context.held.kept), keys(context)
        for step in (39, 0, 20, 1, 38, 7):
            seen = travel.revisit(context, context.n_prompt - 1 + step)
            assert numbers(probes, seen) == told[step], step
        assert list(context.held.kept) == held and context.n_read == context.n_tokens - 1
        assert all(torch.equal(a, b) for a, b in zip(keys(context), before, strict=True))
        assert numbers(probes, context) == told[-1]
