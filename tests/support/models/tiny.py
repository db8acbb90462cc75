"""Tiny random models of each family, built from configs: float32, eval mode, the same weights every time.

The weights are drawn wide enough that attention is far from uniform, and norms, sinks and gates are not left at
their neutral values, so that a probe that forgets one of them disagrees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3_5TextConfig,
    Qwen3Config,
)

VOCAB = 96
WINDOW = 8
SHAPE: dict[str, Any] = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
ALTERNATING = ["sliding_attention", "full_attention"] * 2


def built(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A model with random weights of that config."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    model = model.float().eval()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            random = torch.randn(parameter.shape, generator=noise)
            if "A_log" in name or "dt_bias" in name:
                continue  # the decay of a recurrent state, which must stay in its range
            if "sinks" in name:
                parameter.copy_(random + 1)
            elif parameter.ndim == 1:
                parameter.add_(random, alpha=0.2)
            else:
                parameter.copy_(random * (2.0 / parameter.shape[-1]) ** 0.5)
    return model


def llama(**changes: Any) -> PreTrainedModel:
    return built(LlamaConfig(**SHAPE | changes))


def gpt2() -> PreTrainedModel:
    return built(
        GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=4, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2)
    )


def gemma3() -> PreTrainedModel:
    return built(Gemma3TextConfig(**SHAPE, sliding_window=WINDOW, layer_types=ALTERNATING, query_pre_attn_scalar=8))


def gemma2() -> PreTrainedModel:
    """The cap on attention scores is low, so that it bites."""
    return built(
        Gemma2Config(
            **SHAPE,
            sliding_window=WINDOW,
            layer_types=ALTERNATING,
            query_pre_attn_scalar=8,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=5.0,
        )
    )


def qwen3() -> PreTrainedModel:
    return built(Qwen3Config(**SHAPE))


def gpt_oss() -> PreTrainedModel:
    return built(
        GptOssConfig(
            **SHAPE, sliding_window=WINDOW, layer_types=ALTERNATING, num_local_experts=4, num_experts_per_tok=2
        )
    )


def hybrid() -> PreTrainedModel:
    """Qwen3.5: three blocks with linear attention to one with softmax attention."""
    return built(
        Qwen3_5TextConfig(
            **SHAPE,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            layer_types=["linear_attention", "full_attention", "linear_attention", "full_attention"],
        )
    )


def mixtral() -> PreTrainedModel:
    return built(MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2, sliding_window=None))


def mistral() -> PreTrainedModel:
    """Every block slides, and the config names no layer types."""
    return built(MistralConfig(**SHAPE, sliding_window=WINDOW))


def gemma3n() -> PreTrainedModel:
    """Four residual streams, of which the blocks compute from one; the last two blocks have no keys of their own."""
    of_layers = {"laurel_rank": 4, "hidden_size_per_layer_input": 8, "activation_sparsity_pattern": [0.0] * 4}
    return built(
        Gemma3nTextConfig(
            **SHAPE,
            **of_layers,
            vocab_size_per_layer_input=VOCAB,
            sliding_window=WINDOW,
            layer_types=ALTERNATING,
            num_kv_shared_layers=2,
        )
    )


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": llama,
    "gpt2": gpt2,
    "gemma3": gemma3,
    "gemma2": gemma2,
    "qwen3": qwen3,
    "gpt_oss": gpt_oss,
    "hybrid": hybrid,
    "mixtral": mixtral,
    "mistral": mistral,
}


def prompt(n: int, seed: int = 1) -> torch.Tensor:
    """(1, n) token ids, none of them special."""
    return torch.randint(3, VOCAB, (1, n), generator=torch.Generator().manual_seed(seed))
