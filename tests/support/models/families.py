"""Every causal family of the installed transformers, tiny and random, built from its own config class.

One mechanism makes a config small: a field that has a size by its name gets a small one, a list with an entry for
each layer gets as many entries as there are layers now, each kind of entry among them, and configs within configs are
made small likewise. What a family needs beyond that is in CHANGES.
"""

from __future__ import annotations

from typing import Any

import tiny
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

N_LAYERS = 4
HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD = 32, 48, 4, 2, 8
POSITIONS = 2048
BY_SIZE: list[tuple[int, str]] = [
    (tiny.VOCAB, "vocab_size decoder_vocab_size vocab_size_per_layer_input unpadded_vocab_size"),
    (
        N_LAYERS,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers encoder_layers "
        "num_encoder_layers num_blocks",
    ),
    (
        HIDDEN,
        "hidden_size d_model n_embd dim emb_dim embedding_size embedding_dim word_embed_proj_dim lru_width "
        "input_embedding_size output_embedding_size attention_hidden_size attention_in_size mamba_d_ssm "
        "hidden_size_per_layer_input backbone_hidden_size ple_embed_dim router_hidden_size",
    ),
    (
        FEED_FORWARD,
        "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim moe_intermediate_size d_inner dff dim_ff "
        "ffn_hidden_size expert_ffn_hidden_size shared_expert_intermediate_size shared_intermediate_size "
        "shared_experts_intermediate_size moe_shared_expert_intermediate_size intermediate_size_mlp "
        "feed_forward_size dense_intermediate_size n_inner",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads "
        "encoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads linear_num_value_heads "
        "linear_num_heads swa_num_attention_heads mamba_n_heads mamba_num_heads",
    ),
    (KV_HEADS, "num_key_value_heads num_kv_heads linear_num_key_heads swa_num_key_value_heads num_query_groups"),
    (
        HEAD,
        "head_dim d_head dim_head linear_key_head_dim linear_value_head_dim linear_head_dim qk_nope_head_dim "
        "qk_rope_head_dim v_head_dim index_head_dim kv_channels swa_head_dim global_head_dim query_pre_attn_scalar "
        "attention_head_size state_size mamba_d_state ssm_state_size d_rel laurel_rank gated_norm_rank hc_lowrank "
        "adapter_rank rotary_dim index_topk",
    ),
    (32, "index_n_heads"),  # so many that few keys tie at no score at all
    (16, "qk_head_dim q_lora_rank kv_lora_rank mamba_d_head mamba_head_dim mamba_headdim o_lora_rank"),
    (
        tiny.WINDOW,
        "sliding_window sliding_window_size attention_window_size window_size attention_chunk_size local_attention",
    ),
    (
        4,
        "num_experts n_routed_experts num_local_experts moe_num_experts zero_expert_num mamba_dt_rank time_step_rank",
    ),
    (
        2,
        "num_experts_per_tok num_experts_per_token moe_topk moe_k n_groups mamba_n_groups mamba_ngroups n_group "
        "o_groups num_expert_group",
    ),
    (
        1,
        "topk_group num_shared_experts n_shared_experts moe_num_shared_experts first_k_dense_replace "
        "num_dense_layers",
    ),
    (0, "pad_token_id num_nextn_predict_layers"),
    (
        POSITIONS,
        "max_position_embeddings n_positions n_ctx max_seq_len model_max_length context_length "
        "original_max_position_embeddings max_target_positions",
    ),
]
SIZES = {name: size for size, names in BY_SIZE for name in names.split()} | {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
ENCODERS = (
    "bert bert-generation camembert data2vec-text electra ernie megatron-bert rembert roberta roberta-prelayernorm "
    "roc_bert roformer xlm-roberta xlm-roberta-xl xmod"
)
"""Families of encoders, which are decoders where their config says so."""
DECODER = {"is_decoder": True}
CHANGES: dict[str, dict[str, Any]] = dict.fromkeys(ENCODERS.split(), DECODER) | {
    "big_bird": DECODER | {"attention_type": "original_full"},
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 64, "encoder_hash_byte_group_size": [3, 4]},
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE | {"mrope_section": [2, 1, 1]}}},
    "dbrx": {"attn_config": {"kv_n_heads": KV_HEADS, "clip_qkv": 8.0, "rope_theta": 10000.0}, "hidden_size": HIDDEN},
    "deepseek_v2": {"num_experts_per_tok": 2, "topk_method": "greedy", "n_group": 2},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "dots3_note_vision": {"adapter_in_dim": 1152, "adapter_out_dim": HIDDEN},
    "dots3_note_audio": {"adapter_input_size": HIDDEN, "adapter_out_dim": HIDDEN},
    "dots3_note_text": {
        "swa_num_attention_heads": HEADS,
        "swa_num_key_value_heads": HEADS,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "num_key_value_heads": HEADS,
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * N_LAYERS,
        "intermediate_size": FEED_FORWARD,
    },
    "gemma4_text": {"num_kv_shared_layers": 2, "global_head_dim": 16},
    "gemma4_unified_text": {"num_kv_shared_layers": 2, "global_head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "hunyuan_v1_dense": {"head_dim": HEAD},
    "hunyuan_v1_moe": {"head_dim": HEAD},
    "laguna": {"num_attention_heads_per_layer": [HEADS, 2 * HEADS] * 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"head_dim": 16},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"] * 2,
        "index_n_heads": HEADS,
        "index_block_size": 8,
        "index_topk_blocks": 2,
    },
    "ministral": {"head_dim": HEAD},
    "nemotron": {"num_key_value_heads": KV_HEADS},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "layer_types": ["linear_attention", "indexed_attention"] * 2,
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "moshi": {"num_key_value_heads": KV_HEADS, "head_dim": HEAD, "sliding_window": POSITIONS},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [32, 64],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local", "lsh"] * 2,
    },
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "num_heads": 2, "qk_dim_factor": 1.0, "v_dim_factor": 1.0},
    "xmod": DECODER | {"default_language": "en_XX"},
    "zamba": {"attention_head_dim": 16, "attention_hidden_size": 64, "attn_layer_period": 2, "attn_layer_offset": 1},
    "zaya": {"num_experts_per_tok": 1},
}
"""Family -> fields of its config that are none of SIZES, or others than there."""


def families() -> list[str]:
    """All of them, by the name of their config."""
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def config_of(family: str) -> PreTrainedConfig:
    kind = CONFIG_MAPPING[family]
    return kind(**small(kind))


def small(kind: type[PreTrainedConfig]) -> dict[str, Any]:
    changes = CHANGES.get(kind.model_type, {})
    default = kind()
    n_layers = getattr(default, "num_hidden_layers", None)
    fields: dict[str, Any] = {}
    known = getattr(kind, "__dataclass_fields__", {})
    for name in known:
        value = vars(default).get(name)
        if isinstance(value, PreTrainedConfig):
            fields[name] = small(type(value)) | {"model_type": value.model_type}
        elif isinstance(value, (list, tuple)) and n_layers and len(value) == n_layers:
            kinds = list(dict.fromkeys(map(_sized(name), value)))
            fields[name] = [kinds[layer % len(kinds)] for layer in range(N_LAYERS)]
        elif name in SIZES and isinstance(value, (int, float, list)) and not isinstance(value, bool):
            fields[name] = SIZES[name]
    if "kv_lora_rank" in fields and "num_key_value_heads" in fields:
        fields["num_key_value_heads"] = fields["num_attention_heads"]  # latent attention has no groups of heads
    return fields | changes


def _sized(name: str) -> Any:
    return lambda value: SIZES[name] if name in SIZES and isinstance(value, int) else value


def built(family: str, seed: int = 0) -> PreTrainedModel:
    return tiny.built(config_of(family), seed)
