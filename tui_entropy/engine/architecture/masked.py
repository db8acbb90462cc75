"""The architecture of a model that fills in masked tokens, each of which sees all of its text."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.architecture import (
    CONTEXT,
    N_BLOCKS,
    N_HEADS,
    UNLIMITED,
    Architecture,
    dispatches_attention,
    size,
)
from tui_entropy.engine.architecture.parts import blocks_of, decoder_of, look


def masked_architecture(model: PreTrainedModel) -> Architecture:
    """Find the parts of such a model, and watch them read a token. Raises UserError where one is missing."""
    config: Any = model.config
    decoder, name = decoder_of(model), type(model).__name__
    blocks = blocks_of(decoder, size(config, N_BLOCKS))
    embedding: nn.Module | None = model.get_input_embeddings()
    unembedding: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if embedding is None or unembedding is None or not blocks or config.is_encoder_decoder:
        raise UserError(f"{name} is no chain of blocks between two embeddings; this architecture is not supported")
    seen = look(model, decoder, blocks, {})
    modules = tuple(next(filter(dispatches_attention, block.modules()), None) for block in blocks)
    n_heads = size(config, N_HEADS) or 1
    return Architecture(
        blocks=blocks,
        attention_modules=modules,
        decoder=decoder,
        embedding=embedding,
        tail=seen.tail,
        unembedding=unembedding,
        n_layers=len(blocks),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_model=seen.width,
        vocab=len(unembedding.get_parameter("weight")),
        context=_context(model),
        layer_kinds=("full",) * len(blocks),
        windows=(None,) * len(blocks),
        croppable=False,
        n_streams=seen.n_streams,
        cache_argument="",
        in_stretches=False,
        left_to_right=False,
    )


def _context(model: PreTrainedModel) -> int:
    """Tokens. Positions of some families begin behind that of the padding."""
    known = size(model.config, CONTEXT)
    from_padding: list[int] = [
        padding
        for part in model.modules()
        if hasattr(part, "create_position_ids_from_input_ids")
        and isinstance(padding := getattr(part, "padding_idx", None), int)
    ]
    return known - from_padding[0] - 1 if known and from_padding else known or UNLIMITED
