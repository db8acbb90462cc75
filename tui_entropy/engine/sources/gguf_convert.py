"""A GGUF file made into a folder of safetensors, once, so that every later start takes seconds.

Files of the llama architecture are read here: transformers takes five times as long and does not split the digits of
SmolLM2. Others go through transformers.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType
from gguf.quants import quantize

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources.catalogue import Provenance
from tui_entropy.engine.sources.gguf import GgufFile
from tui_entropy.records.events import Progress

Report = Callable[[Progress], None]

LARGEST_FLOAT32 = 10**9
"""Bytes up to which dequantised weights are kept as float32; beyond, they are kept as bfloat16."""

DTYPES = {Kind.F32: "float32", Kind.F16: "float16", Kind.BF16: "bfloat16"}

LLAMA_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROPE_FACTORS = "rope_freqs.weight"

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens that are matched whole, in `tokenizer.ggml.token_type`."""


def convert(path: Path, folder: Path, title: str, source: str, report: Report) -> None:
    """Fill an empty folder with the weights, the configuration and the tokenizer of a GGUF file.

    Progress is counted in tensors. Raises UserError for a file that cannot be read or has no counterpart here.
    """
    gguf = GgufFile(path)
    if gguf.metadata.get("split.count", 1) > 1:
        raise UserError(f"{path.name} is one part of a split file; join the parts with `llama-gguf-split --merge`")
    if _is_plain_llama(gguf):
        _write_llama(gguf, folder, report)
    else:
        report(Progress(f"converting {title}"))
        _write_through_transformers(gguf, folder)
    Provenance(title, source, _note(gguf)).write(folder)


def _note(gguf: GgufFile) -> str:
    try:
        name = LlamaFileType(gguf.metadata["general.file_type"]).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except (KeyError, ValueError):
        name = _commonest(gguf).name
    return name if name in {kind.name for kind in DTYPES} else f"{name}, dequantised"


def _commonest(gguf: GgufFile) -> Kind:
    """The type that most of the weights are stored in."""
    weights: dict[Kind, int] = {}
    for tensor in gguf.tensors.values():
        weights[tensor.kind] = weights.get(tensor.kind, 0) + math.prod(tensor.shape)
    return max(weights, key=lambda kind: weights[kind])


def _dtype_to_keep(gguf: GgufFile) -> Kind:
    """The type of the file where it is one of torch's, otherwise by size."""
    commonest = _commonest(gguf)
    if commonest in DTYPES:
        return commonest
    n_weights = sum(math.prod(tensor.shape) for tensor in gguf.tensors.values())
    return Kind.F32 if n_weights * 4 <= LARGEST_FLOAT32 else Kind.BF16


# --- The llama architecture ----------------------------------------------------------------------------------


def _is_plain_llama(gguf: GgufFile) -> bool:
    return (
        gguf.metadata.get("general.architecture") == "llama"
        and isinstance(gguf.metadata.get("llama.attention.head_count"), int)
        and all(_llama_name(name) for name in gguf.tensors if name != ROPE_FACTORS)
    )


def _llama_name(name: str) -> str | None:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight; None for a tensor that no llama has."""
    parts = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if parts is None or parts[2] not in LLAMA_NAMES:
        return None
    block = f"model.layers.{parts[1]}." if parts[1] else ""
    return f"{block}{LLAMA_NAMES[parts[2]]}.{parts[3]}"


def _write_llama(gguf: GgufFile, folder: Path, report: Report) -> None:
    kind = _dtype_to_keep(gguf)
    config = _llama_config(gguf) | {"dtype": DTYPES[kind]}
    ends = {name: id for name, id in config.items() if name.endswith("_token_id") and id is not None}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", ends)
    if gguf.metadata.get("tokenizer.ggml.pre") == "smollm":
        _write_smollm_tokenizer(gguf, folder)
    else:
        _write_tokenizer_through_transformers(gguf, folder)

    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    names = [name for name in gguf.tensors if name != ROPE_FACTORS]

    def tensors() -> Iterator[npt.NDArray[np.float32]]:
        for done, name in enumerate(names):
            report(Progress("converting the weights", done, len(names), "tensors"))
            projection = str(_llama_name(name)).split(".")[-2]
            weight = gguf.read(name)
            yield _in_pairs_of_halves(weight, heads[projection]) if projection in heads else weight

    shapes = {str(_llama_name(name)): gguf.tensors[name].shape for name in names}
    _write_safetensors(folder / "model.safetensors", shapes, kind, tensors())
    report(Progress("converting the weights", len(names), len(names), "tensors"))


def _in_pairs_of_halves(weight: npt.NDArray[np.float32], n_heads: int) -> npt.NDArray[np.float32]:
    """Rows of q or k, from llama.cpp's rotary order (pairs side by side) to transformers' (half a head apart)."""
    rows, *width = weight.shape
    return weight.reshape(n_heads, rows // n_heads // 2, 2, *width).swapaxes(1, 2).reshape(weight.shape)


def _llama_config(gguf: GgufFile) -> dict[str, Any]:
    def key(name: str, default: Any = None) -> Any:
        value = gguf.metadata.get(f"llama.{name}", default)
        if value is None:
            raise UserError(f"{gguf.path.name} lacks llama.{name} in its header; fetch the GGUF file again")
        return value

    def special(name: str) -> Any:
        return gguf.metadata.get(f"tokenizer.ggml.{name}_token_id")

    n_heads, d_model = key("attention.head_count"), key("embedding_length")
    head_dim = key("attention.key_length", d_model // n_heads)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": d_model,
        "intermediate_size": key("feed_forward_length"),
        "num_hidden_layers": key("block_count"),
        "num_attention_heads": n_heads,
        "num_key_value_heads": key("attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": key("context_length"),
        "rms_norm_eps": float(str(np.float32(key("attention.layer_norm_rms_epsilon")))),  # 1e-05, not 9.99...e-06
        "rope_parameters": _rope(gguf, head_dim),
        "vocab_size": gguf.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "attention_bias": "blk.0.attn_q.bias" in gguf.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in gguf.tensors,
        "bos_token_id": special("bos"),
        "eos_token_id": special("eos"),
        "pad_token_id": special("padding"),
    }


def _rope(gguf: GgufFile, head_dim: int) -> dict[str, Any]:
    """Plain, linear, or Llama 3's, which the file holds as factors. Raises UserError for any other scaling."""
    theta = float(gguf.metadata.get("llama.rope.freq_base", 10000.0))
    kind = gguf.metadata.get("llama.rope.scaling.type", "none")
    plain = {"rope_type": "default", "rope_theta": theta}
    if gguf.metadata.get("llama.rope.dimension_count", head_dim) == head_dim and kind in ("none", "linear"):
        if ROPE_FACTORS in gguf.tensors:
            factors = gguf.read(ROPE_FACTORS)
            largest, low, high, trained = float(factors.max()), 1.0, 4.0, 8192
            wavelength = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
            blend = np.clip((trained / wavelength - low) / (high - low), 0, 1)
            if np.allclose(factors, 1 / ((1 - blend) / largest + blend), rtol=1e-4):
                scaling = {"factor": largest, "low_freq_factor": low, "high_freq_factor": high}
                return plain | scaling | {"rope_type": "llama3", "original_max_position_embeddings": trained}
        elif kind == "linear":
            return plain | {"rope_type": "linear", "factor": gguf.metadata["llama.rope.scaling.factor"]}
        else:
            return plain
    raise UserError(
        f"{gguf.path.name} scales its rotary positions in a way that is not read here; use a safetensors copy"
    )


def _write_smollm_tokenizer(gguf: GgufFile, folder: Path) -> None:
    """Byte-level BPE in which every digit stands alone, which transformers does not know of this vocabulary."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    header = {name.removeprefix("tokenizer.ggml."): value for name, value in gguf.metadata.items()}
    tokens: list[str] = header["tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in header["merges"]]
    tokenizer = Tokenizer(BPE({token: id for id, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = ByteLevelDecoder()
    for token, kind in zip(tokens, header["token_type"], strict=True):
        if kind in (CONTROL, USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, normalized=False, special=kind == CONTROL)])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": gguf.metadata["llama.context_length"],
            "chat_template": gguf.metadata.get("tokenizer.chat_template"),
            **{
                f"{ours}_token": tokens[header[f"{theirs}_token_id"]]
                for theirs, ours in special.items()
                if f"{theirs}_token_id" in header
            },
        },
    )


# --- Writing -------------------------------------------------------------------------------------------------


def _write_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], kind: Kind, tensors: Iterator[npt.NDArray[np.float32]]
) -> None:
    """One tensor at a time, so that a file may be larger than the memory. `tensors` come in the order of `shapes`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * (4 if kind is Kind.F32 else 2)
        header[name] = {"dtype": kind.name, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            file.write(np.ascontiguousarray(quantize(tensor, kind)).data)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# --- Every other architecture --------------------------------------------------------------------------------


def _write_through_transformers(gguf: GgufFile, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    dtype = getattr(torch, DTYPES[_dtype_to_keep(gguf)])
    try:
        with redirect_stderr(StringIO()):  # a bar of its own, which no setting of the library takes off
            model = AutoModelForCausalLM.from_pretrained(gguf.path.parent, gguf_file=gguf.path.name, dtype=dtype)
    except (ImportError, OSError, ValueError, KeyError, RuntimeError) as refused:
        kind = gguf.metadata.get("general.architecture", "unknown")
        reason = str(refused).strip().splitlines()[0] if str(refused).strip() else type(refused).__name__
        raise UserError(
            f"{gguf.path.name} is of the architecture {kind}, which transformers does not convert ({reason}); "
            "use a safetensors copy of the model"
        ) from refused
    # transformers takes what it has just dequantised for quantised, and would not save it.
    model.hf_quantizer = None  # type: ignore[assignment]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    _write_tokenizer_through_transformers(gguf, folder)


def _write_tokenizer_through_transformers(gguf: GgufFile, folder: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(gguf.path.parent, gguf_file=gguf.path.name).save_pretrained(folder)
