"""Where a model keeps its blocks, norm and heads, and of what kind its layers are. Looked up once, at load."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, get_layer_types_and_kwargs
from transformers.configuration_utils import remap_legacy_layer_types

from tui_entropy.engine.cache import RoomyCache, RoomyLayer
from tui_entropy.errors import UserError

BLOCKS = ("layers", "h", "blocks")
FINAL_NORM = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")
UNLIMITED = 1 << 20
"""Context in tokens of a model that names no limit."""

SOFTMAX = {"full", "sliding", "chunked", "hybrid", "hybrid_sliding"}
"""Kinds of layers whose attention rows run over all keys that a window leaves in."""
CACHE = "past_key_values"
CROPPABLE = {"full", "sliding", "chunked"}


@dataclass(frozen=True)
class Anatomy:
    """The parts of a causal language model. Block k of the project's numbering is `blocks[k - 1]`."""

    blocks: tuple[nn.Module, ...]
    attention_modules: tuple[nn.Module | None, ...]
    """Per block: the module that calls the attention function, None where rows cannot be had."""
    embedding: nn.Module
    final_norm: nn.Module
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
    cache_argument: str = CACHE
    """What the model's forward calls its cache; under another name it would be passed over without a word."""

    @property
    def in_stretches(self) -> bool:
        """Whether several tokens can be read behind others. Mamba's scan over several begins from nothing."""
        return self.cache_argument == CACHE

    @property
    def attention(self) -> tuple[bool, ...]:
        """Per block: whether it has attention rows to show."""
        return tuple(module is not None for module in self.attention_modules)


def anatomy_of(model: PreTrainedModel) -> Anatomy:
    """Find the parts and check that they fit together.

    A multimodal wrapper is looked through to its text model. Raises UserError if a part is missing or its size is
    not what the config says.
    """
    name = type(model).__name__
    config = model.config.get_text_config(decoder=True)
    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    blocks = tuple(_part(decoder, BLOCKS, "blocks", name).children())
    embedding: nn.Module | None = model.get_input_embeddings()
    unembedding: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if embedding is None or unembedding is None:
        raise UserError(
            f"{name} has no {'embedding' if embedding is None else 'language-model head'}, and a model that writes "
            "was wanted: load a causal language model"
        )
    kinds = layer_kinds(config)
    if not len(blocks) == len(kinds) == config.num_hidden_layers:
        raise UserError(
            f"{name} has {len(blocks)} blocks and {len(kinds)} layer types but its config says "
            f"{config.num_hidden_layers} layers: weights and config.json are of different models; fetch both again"
        )
    vocab, width = unembedding.get_parameter("weight").shape
    if width != config.hidden_size:
        raise UserError(
            f"the language-model head of {name} reads vectors of width {width} but its config says "
            f"{config.hidden_size}: weights and config.json are of different models; fetch both again"
        )
    n_heads = getattr(config, "num_attention_heads", None) or 1  # without attention: one column of unknowns
    return Anatomy(
        blocks=blocks,
        attention_modules=tuple(
            _attention_module(block) if kind in SOFTMAX else None for block, kind in zip(blocks, kinds, strict=True)
        ),
        embedding=embedding,
        final_norm=_part(decoder, FINAL_NORM, "final norm", name),
        unembedding=unembedding,
        n_layers=len(blocks),
        n_heads=n_heads,
        n_kv_heads=getattr(config, "num_key_value_heads", None) or n_heads,
        d_model=width,
        vocab=vocab,
        context=getattr(config, "max_position_embeddings", None) or UNLIMITED,
        layer_kinds=kinds,
        windows=_windows(config, kinds),
        croppable=CROPPABLE.issuperset(kinds),
        stream=getattr(config, "altup_active_idx", 0),
        cache_argument=cache_argument(model),
    )


def cache_argument(model: PreTrainedModel) -> str:
    """What the model's forward calls its cache."""
    return "cache_params" if "cache_params" in inspect.signature(model.forward).parameters else CACHE


def layer_kinds(config: PreTrainedConfig) -> tuple[str, ...]:
    """Per block, from `config.layer_types` or, where there are none, from its window sizes."""
    types: Sequence[str] = getattr(config, "layer_types", None) or get_layer_types_and_kwargs(config)[0]
    return tuple(kind.removesuffix("_attention") for kind in remap_legacy_layer_types(list(types)) or ())


def new_cache(model: PreTrainedModel, anatomy: Anatomy, expected: int = 0) -> Cache:
    """An empty cache for one run. expected: tokens that are known to come.

    Where the anatomy allows it, every layer keeps all its keys, window or not: such a cache can be cropped any number
    of times and its columns are positions. Otherwise the cache is of the kind that the config asks for, where at
    least those layers that keep all their keys can be shortened.
    """
    if anatomy.croppable:
        return RoomyCache(expected)
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer(expected) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _part(decoder: nn.Module, names: Sequence[str], what: str, model: str) -> nn.Module:
    for name in names:
        if isinstance(found := getattr(decoder, name, None), nn.Module):
            return found
    raise UserError(
        f"no {what} found in {model}: wanted one of {', '.join(names)} in its {type(decoder).__name__}; "
        "this architecture is not supported"
    )


def _windows(config: PreTrainedConfig, kinds: Sequence[str]) -> tuple[int | None, ...]:
    names = {"sliding": "sliding_window", "hybrid_sliding": "sliding_window", "chunked": "attention_chunk_size"}
    return tuple(
        getattr(layer, names[kind]) if kind in names else None
        for layer, kind in zip(config.per_layer_config, kinds, strict=True)
    )


def _attention_module(block: nn.Module) -> nn.Module | None:
    """The first module in a block whose rows can be had."""
    own = (module for module in block.modules() if not getattr(module, "is_cross_attention", False))
    return next(filter(dispatches_attention, own), None)


def dispatches_attention(module: nn.Module) -> bool:
    """Whether a module looks its attention function up in the library's registry, where ours can be found."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is not None and "get_interface" in code.co_names
