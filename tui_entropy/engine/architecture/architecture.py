"""The architecture of a model: where its blocks, norm and heads are, and its kinds of layers. Found once, at load."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs
from transformers.configuration_utils import remap_legacy_layer_types

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.parts import (
    Attribute,
    asks_whether_decoder,
    blocks_of,
    decoder_of,
    look,
    projects,
    taken_by,
)
from tui_entropy.engine.cache.kv_cache import PreallocatedCache

N_BLOCKS = ("decoder_layers", "num_decoder_layers", "num_hidden_layers")
N_HEADS = ("decoder_attention_heads", "num_decoder_attention_heads", "num_attention_heads")
CONTEXT = ("max_target_positions", "max_position_embeddings", "max_seq_len")
"""What configs call these, of a decoder first: where there was an encoder the other name is that of the encoder."""
UNLIMITED = 1 << 20
"""Context in tokens of a model that names no limit."""

SOFTMAX = {"full", "sliding", "chunked", "hybrid", "hybrid_sliding"}
"""Kinds of layers whose attention rows run over all keys that a window leaves in."""
CACHE = "past_key_values"
CACHES = ("cache_params", CACHE, "state")
"""What a model's forward may call its cache."""
OWN_STATE = "recurrent"
"""The kind of the layers of a model that keeps a state of its own, as a whole."""
CROPPABLE = {"full", "sliding", "chunked"}


@dataclass(frozen=True)
class Architecture:
    """The parts of a language model. Block k of the project's numbering is `blocks[k - 1]`."""

    blocks: tuple[nn.Module, ...]
    attention_modules: tuple[nn.Module | None, ...]
    """Per block: the module that calls the attention function, None where rows cannot be had."""
    decoder: PreTrainedModel
    """What turns ids into the vectors that the head reads."""
    embedding: nn.Module
    tail: tuple[nn.Module, ...]
    """What the decoder does to the residual stream behind the last block: a norm, a projection, both or nothing."""
    unembedding: nn.Module
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    vocab: int
    context: int
    """Tokens that the model was made for."""
    layer_kinds: tuple[str, ...]
    """Per block: 'full', 'sliding', 'chunked', or the name of another kind ('linear', 'conv', ...)."""
    windows: tuple[int | None, ...]
    """Per block: width of the sliding window or of the chunk in tokens, None for none."""
    croppable: bool
    """Every block keeps plain keys and values, so a cache that holds all of them can be shortened at will."""
    stream: int = 0
    """Of a residual stream that is several (AltUp: Baykal et al. 2023) the one that the blocks compute from."""
    n_streams: int = 1
    parallel: bool = False
    """The residual stream is several, side by side (Hyper-Connections: Zhu et al. 2024), and their mean counts."""
    cache_argument: str = CACHE
    """What the model's forward calls its cache; under another name it would be passed over without a word. Empty for
    one that keeps nothing and is given the whole text at every step."""
    own_cache: bool = False
    """Its cache is of a kind of its own, which it hands out to be given back."""
    cache_kind: type[Cache] = DynamicCache
    """Of the library's caches its own, where it takes no other."""
    module_states: tuple[tuple[Attribute, ...], ...] = ()
    """Per block: attributes of its modules in which it keeps a state of the text. Empty where no block does."""
    in_stretches: bool = True
    """Several tokens can be read behind others. Some scans over several begin from nothing, whatever was before."""
    left_to_right: bool = True
    """A token sees those before it only. One that fills in masked tokens sees all of its text."""

    @property
    def final_norm(self) -> nn.Module:
        """All that stands between the last block and the head, as one."""
        return self.tail[0] if len(self.tail) == 1 else nn.Sequential(*self.tail)

    def streamed(self, hidden: Tensor) -> Tensor:
        """(batch, n, d_model) of what a block puts out, however many streams that is."""
        if hidden.dim() < 4:
            return hidden
        return hidden.mean(2) if self.parallel else hidden[self.stream]

    @property
    def attention(self) -> tuple[bool, ...]:
        """Per block: whether it has attention rows to show."""
        return tuple(module is not None for module in self.attention_modules)


class Parts(NamedTuple):
    """The facts of a model that can be told without running it, so before its weights are there."""

    config: PreTrainedConfig
    """Of the text model."""
    decoder: PreTrainedModel
    blocks: tuple[nn.Module, ...]
    embedding: nn.Module
    unembedding: nn.Module
    kinds: tuple[str, ...]
    """Per block."""
    n_each: int
    """Attentions in a block, each of which keeps keys."""


def parts_of(model: PreTrainedModel) -> Parts:
    """Find the parts and check that they fit together and write from left to right.

    A multimodal wrapper is looked through to its text model. Raises UserError if a part is missing or its size is
    not what the config says.
    """
    name = type(model).__name__
    config = model.config.get_text_config(decoder=True)
    decoder = decoder_of(model)
    declared = size(config, N_BLOCKS)
    blocks = blocks_of(decoder, declared)
    embedding: nn.Module | None = model.get_input_embeddings()
    unembedding: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if embedding is None or unembedding is None:
        raise UserError(
            f"{name} has no {'embedding' if embedding is None else 'language-model head'}, and a model that writes "
            "was wanted: load a causal language model"
        )
    if reason := not_left_to_right(model):
        raise UserError(f"{name} does not write from left to right: {reason}; load a causal language model")
    if not declared or not blocks:
        raise UserError(
            f"{name} is no single chain of blocks, the number of which its config tells; this architecture is not "
            "supported"
        )
    kinds = layer_kinds(config)
    n_each = max(len(kinds) // len(blocks), 1)
    if not n_each * len(blocks) == len(kinds) == declared:
        raise UserError(
            f"{name} has {len(blocks)} blocks and {len(kinds)} layer types but its config says {declared} layers: "
            "weights and config.json are of different models; fetch both again"
        )
    if n_each > 1 and len(set(kinds)) > 1:
        raise UserError(
            f"{name} has {n_each} attentions in a block, of different kinds ({', '.join(dict.fromkeys(kinds))}); "
            "this architecture is not supported"
        )
    width = unembedding.get_parameter("weight").shape[1]
    if width != config.hidden_size and not projects(model, config.hidden_size, width):
        raise UserError(
            f"the language-model head of {name} reads vectors of width {width}, its config says "
            f"{config.hidden_size}, and it has no layer from one to the other; this architecture is not supported"
        )
    return Parts(config, decoder, blocks, embedding, unembedding, kinds[::n_each], n_each)


def architecture_of(model: PreTrainedModel) -> Architecture:
    """Find the parts, and watch them read a token. Raises UserError as `parts_of` does, and if it does not run."""
    config, decoder, blocks, embedding, unembedding, kinds, n_each = parts_of(model)
    argument = cache_argument(model)
    # Of a cache with a layer for each entry of its config the library makes too few for some decoders of translators.
    arguments = {CACHE: PreallocatedCache()} if argument == CACHE and CROPPABLE.issuperset(kinds) else {}
    seen = look(model, decoder, blocks, arguments)
    cache = seen.caches.get(argument)
    own_cache = cache is not None and not isinstance(cache, Cache)
    if own_cache:
        kinds = (OWN_STATE,) * len(blocks)
    module_states = tuple(tuple(at for at in seen.states if at[0] in set(block.modules())) for block in blocks)
    # Of several attentions in a block none is shown, since a block has one row for each head.
    attention_modules = tuple(
        _attention_module(block) if kind in SOFTMAX and n_each == 1 else None
        for block, kind in zip(blocks, kinds, strict=True)
    )
    n_heads = size(config, N_HEADS) or 1  # without attention: one column of unknowns
    return Architecture(
        blocks=blocks,
        attention_modules=attention_modules,
        decoder=decoder,
        embedding=embedding,
        tail=seen.tail,
        unembedding=unembedding,
        n_layers=len(blocks),
        n_heads=max(n_heads, *(getattr(module, "num_heads", 0) for module in attention_modules)),
        n_kv_heads=getattr(config, "num_key_value_heads", None) or n_heads,
        d_model=seen.width,
        vocab=len(unembedding.get_parameter("weight")),
        context=_context(config),
        layer_kinds=kinds,
        windows=_windows(config, kinds),
        croppable=CROPPABLE.issuperset(kinds) and not seen.states,
        stream=getattr(config, "altup_active_idx", 0),
        n_streams=seen.n_streams,
        parallel=seen.parallel,
        cache_argument=argument,
        own_cache=own_cache,
        cache_kind=type(cache) if isinstance(cache, Cache) and not _usual_cache(cache) else DynamicCache,
        module_states=module_states if seen.states else (),
        in_stretches=argument != "cache_params" and not seen.states,
    )


def usual(kind: Any, config: PreTrainedConfig) -> bool:
    """Whether a model of this class is a decoder of the usual kind: made for nothing else, and with a cache that the
    library knows."""
    return CACHE in inspect.signature(kind.forward).parameters and getattr(config, "is_decoder", None) is None


def not_left_to_right(model: PreTrainedModel) -> str:
    """Why a model cannot give the next token's probabilities from those before it; empty where nothing speaks against
    it."""
    if getattr(model.config, "is_decoder", None) is False and asks_whether_decoder(decoder_of(model)):
        return "it is an encoder (is_decoder is false in its config.json), so each token sees those after it"
    if any(getattr(module, "attention_type", None) == "block_sparse" for module in decoder_of(model).modules()):
        return "in block-sparse attention (attention_type in its config.json) a token of a long text sees later ones"
    ids = torch.zeros(1, 2, dtype=torch.long)
    writer: Any = model
    if type(writer).prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation:
        with suppress(Exception):  # one that needs more than ids takes them as all models do
            given = writer.prepare_inputs_for_generation(ids)["input_ids"]
            if given.shape[1] > ids.shape[1]:
                return "it guesses a token that is put behind the text anew at every step, and all others see it"
    return ""


def size(config: PreTrainedConfig, names: Sequence[str]) -> int:
    """The first of these that a config has; 0 for none."""
    return next((n for name in names if isinstance(n := getattr(config, name, None), int) and n > 0), 0)


def cache_argument(model: PreTrainedModel) -> str:
    """The name that the model's forward has for its cache; empty where it takes none."""
    return next((name for name in CACHES if name in taken_by(model)), "")


def layer_kinds(config: PreTrainedConfig) -> tuple[str, ...]:
    """Per block, from `config.layer_types` or, where there are none, from its window sizes."""
    types: Sequence[str] = getattr(config, "layer_types", None) or get_layer_types_and_kwargs(config)[0]
    if not getattr(config, "layer_types", None) and len(set(types)) == 1:
        types = [types[0]] * size(config, N_BLOCKS)
    return tuple(kind.removesuffix("_attention") for kind in remap_legacy_layer_types(list(types)) or ())


def _windows(config: PreTrainedConfig, kinds: Sequence[str]) -> tuple[int | None, ...]:
    names = {"sliding": "sliding_window", "hybrid_sliding": "sliding_window", "chunked": "attention_chunk_size"}
    layers = config.per_layer_config if len(config.per_layer_config) == len(kinds) else [config] * len(kinds)
    return tuple(
        _width(layer, names[kind]) if kind in names else None for layer, kind in zip(layers, kinds, strict=True)
    )


def _width(config: Any, name: str) -> int | None:
    """Tokens; None where a layer sees all of them after all. Raises UserError for what is no width."""
    width = getattr(config, name, None)
    if width is not None and (not isinstance(width, int) or width < 1):
        raise UserError(f"{name} is {str(width)[:40]} in config.json, and a number of tokens was wanted: correct it")
    return width


def _usual_cache(cache: Cache) -> bool:
    """Whether a cache is one of the library's, or ours."""
    return type(cache).__module__ in (DynamicCache.__module__, PreallocatedCache.__module__)


def _context(config: PreTrainedConfig) -> int:
    """Tokens that the model can be read through with one cache. LongRoPE turns all positions by other angles once a
    text is longer than its original context: keys that were kept before are none of the longer text."""
    known = size(config, CONTEXT) or UNLIMITED
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    each = rope.values() if all(isinstance(part, dict) for part in rope.values()) else [rope]
    long: list[int] = [
        part["original_max_position_embeddings"] for part in each if part.get("rope_type") == "longrope"
    ]
    return min(known, *long) if long else known


def _attention_module(block: nn.Module) -> nn.Module | None:
    """The first module in a block whose rows can be had."""
    own = (module for module in block.modules() if not getattr(module, "is_cross_attention", False))
    return next(filter(dispatches_attention, own), None)


def dispatches_attention(module: nn.Module) -> bool:
    """Whether a module looks its attention function up in the library's registry, where ours can be found."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is not None and "get_interface" in code.co_names
