"""Going back: a step that is visited again, and texts that take turns in one cache."""

import numpy as np
import pytest
import tiny
import torch
from small import card, endless, tokenizer
from transformers import DeepseekV3Config, FalconH1Config

from tui_entropy.engine.architecture.architecture import anatomy_of
from tui_entropy.engine.decoding.instruments import instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.measure.step_record import believed, brought_over
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import Context
from tui_entropy.engine.session.rewind import Travel
from tui_entropy.engine.tokenization.tokenizer import Codec
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

PROMPT = tiny.prompt(12)[0].tolist()
DRAWN = Controls(Knobs(temperature=1.0, top_k=0, seed=3), {})


def latent():
    """The keys are kept compressed, or expanded from what is."""
    experts = dict(moe_intermediate_size=16, n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2)
    ranks = dict(q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8, head_dim=4)
    return tiny.built(DeepseekV3Config(**tiny.SHAPE | experts | ranks | dict(num_key_value_heads=4)))


def both_at_once():
    """Every block has attention and a state."""
    ssm = dict(mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1)
    return tiny.built(FalconH1Config(**tiny.SHAPE | ssm))


MODELS = tiny.FAMILIES | {"shared_keys": tiny.gemma3n, "latent": latent, "both_at_once": both_at_once}


@pytest.fixture(scope="module", params=MODELS)
def loaded(request):
    model = MODELS[request.param]()
    return endless(Loaded(model, Codec(tokenizer(tiny.VOCAB)), anatomy_of(model), card(model)))


def numbers(probes, context):
    """All that the loop makes of a forward pass, before it chooses."""
    probes.look_at(context)
    logp, belief = believed(context.logits, probes.attention.measures(), probes.residual.stream(), 20)
    return [*logp.tolist(), *(x for part in brought_over(belief).values() for x in np.nan_to_num(part).tolist())]


def written(travel, context, controls):
    """Write to the end. Of each step what its forward pass left behind."""
    told = []
    for event in decode(travel.loaded, travel.probes, context, lambda: controls, 1, False):
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


def test_another_text_in_between_costs_a_copy_and_changes_nothing(loaded):
    with instruments(loaded) as probes:
        travel = Travel(loaded, probes, bound=1 << 20)
        one = Context(loaded, PROMPT, 60)
        travel.seat(one)
        first = written(travel, one, DRAWN)
        two = one.branch(33, 20)
        travel.seat(two)
        assert two.n_read > 0 and one.n_read == 0 and 0 < travel.kept.bytes <= travel.kept.bound
        two.forced = [5]
        other = written(travel, two, DRAWN)
        assert other[0] == first[33] and other[1] != first[34]
        how = travel.seat(one)
        assert how == "kept" if loaded.anatomy.croppable else one.behind < 32
        three = one.branch(60, 5)
        travel.seat(three)
        straight = Context(loaded, PROMPT, 65)
        more = written(travel, three, DRAWN)
        travel.seat(straight)
        assert written(travel, straight, DRAWN) == [*first, *more]


@pytest.mark.real
def test_on_the_default_model_it_is_to_the_bit_too():
    found = load(ModelSpec("smollm2"), lambda progress: None)
    with instruments(found) as probes:
        travel = Travel(found, probes, bound=1 << 28)
        one = Context(found, found.codec.encode("Tell me about the sea.", None, chat=True), 10)
        travel.seat(one)
        told = written(travel, one, DRAWN)
        for step in (9, 0, 4):
            assert numbers(probes, travel.revisit(one, one.n_prompt - 1 + step)) == told[step]
        two = one.branch(4, 3)
        assert travel.seat(two) == "kept"
        two.forced = found.codec.continuing(" whale")
        assert written(travel, two, DRAWN)[0] == told[4]
        assert travel.seat(one) == "kept"
        three = one.branch(7, 3)
        travel.seat(three)
        assert written(travel, three, DRAWN) == told[7:]
