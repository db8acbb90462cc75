"""Small models that go back in their text, and all the numbers that must come out the same."""

import numpy as np
import tiny
from transformers import DeepseekV3Config, FalconH1Config

from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.measure.step_record import model_metrics, to_host
from tui_entropy.engine.sampling.settings import Controls
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


def numbers(instruments, sequence):
    """All that the loop makes of a forward pass, before it chooses."""
    instruments.look_at(sequence)
    logp, belief = model_metrics(
        sequence.logits, instruments.attention.head_statistics(), instruments.residual.stream(), 20
    )
    return [*logp.tolist(), *(x for part in to_host(belief).values() for x in np.nan_to_num(part).tolist())]


def written(rewinder, sequence, controls):
    """Write to the end. Of each step what its forward pass left behind."""
    pass_numbers = []
    for event in decode(rewinder.loaded, rewinder.instruments, sequence, lambda: controls, 1, False):
        rewinder.checkpoint()
        if isinstance(event, Step):
            pass_numbers.append(numbers(rewinder.instruments, sequence))
    return pass_numbers
