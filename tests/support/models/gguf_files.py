"""Small GGUF files, written with the gguf library from tiny random models."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tiny
from gguf.quants import quantize
from tokenizers import pre_tokenizers
from transformers import PreTrainedModel

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())[: tiny.VOCAB - 5]
TOKENS = ["<unk>", "<|im_start|>", "<|im_end|>", *LETTERS, "11", "aa"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write(
    path: Path,
    model: PreTrainedModel,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    pre: str = "smollm",
    architecture: str = "llama",
    rope_factors: np.ndarray | None = None,
    **extra: Any,
) -> Path:
    """A Llama or Qwen3 as llama.cpp would keep it; tensors whose rows are no multiple of a block stay float32.

    extra: further strings, whole numbers and fractions for the header, with __ for each dot.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_vocab_size(tiny.VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["1 1", "a a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, value in extra.items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)]
        add(name.replace("__", "."), value)
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors.astype(np.float32))
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = _as_llama_cpp(name, weight.numpy(), config) if architecture == "llama" else weight.numpy()
        block = gguf.GGML_QUANT_SIZES[kind][0]
        own = kind if array.ndim > 1 and array.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(_name(name), quantize(array, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _name(name: str) -> str:
    part, _, ending = name.rpartition(".")
    if not part.startswith("model.layers."):
        return f"{NAMES[part]}.{ending}"
    _, _, block, rest = part.split(".", 3)
    return f"blk.{block}.{NAMES[rest]}.{ending}"


def _as_llama_cpp(name: str, weight: np.ndarray, config: Any) -> np.ndarray:
    """q and k in llama.cpp's rotary order. Source: LlamaModel.permute of its convert_hf_to_gguf.py."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for projection, n_heads in heads.items():
        if projection in name:
            split = weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, *weight.shape[1:])
            return split.swapaxes(1, 2).reshape(weight.shape)
    return weight
