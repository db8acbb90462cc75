"""Attention scores taken apart: the product of a query and a key as the sum of what earlier blocks put into either.

Norms are frozen at the scale that they had, those of queries and keys too, so both are linear in the residual stream:
a Jacobian, taken through the model's own file, holds whatever else there is (rotations, groups of heads, low ranks).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.attribution.frozen_norm import frozen_norm, is_norm
from tui_entropy.engine.attribution.stand_ins import standing_in
from tui_entropy.engine.decomposition.block_parts import BlockParts
from tui_entropy.engine.instruments.attention_functions import unwatched

HIDES = {"attention_mask", "past_key_values", "past_key_value", "layer_past"}
"""Arguments of a block that say what is hidden, or hold what was before: nothing of either is wanted."""


class NoScore(Exception):
    """Why a score cannot be taken apart: half a sentence."""


@dataclass
class BlockInput:
    """What a block was given in the newest pass."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamPart:
    """What stands in the residual stream before a block, of one source."""

    kind: str
    """'embedding', 'attention', 'feed-forward' or 'vectors'."""
    block: int
    """1-based; 0 for the embedding."""
    vector: Tensor
    """(d_model,)"""


@dataclass(frozen=True)
class Side:
    """A query, or a key, as the sum of parts."""

    vector: Tensor
    """(d_head,) of the model's own."""
    parts: Tensor
    """(m, d_head) float32 of each part of the stream."""
    bias: Tensor
    """(d_head,) what it is without anything in the stream."""


@contextmanager
def heard_input(block: nn.Module) -> Iterator[BlockInput]:
    """Keep what a block is given, for as long as the `with` lasts."""
    heard = BlockInput()

    def begin(_: nn.Module, args: Any, kwargs: Any) -> None:
        heard.args, heard.kwargs = args, kwargs

    hook = block.register_forward_pre_hook(begin, with_kwargs=True)
    try:
        yield heard
    finally:
        hook.remove()


def stream_parts(blocks: list[BlockParts]) -> list[StreamPart]:
    """What the newest position holds behind these blocks, the first one first, as a sum."""
    parts = [StreamPart("embedding", 0, blocks[0].stream[-1])] if blocks else []
    for number, block in enumerate(blocks, 1):
        if number > 1:  # some scale what they were given
            before, now = blocks[number - 2].output[-1], block.stream[-1]
            factor = float(now @ before / (before @ before).clamp(min=1e-30))
            parts = [StreamPart(one.kind, one.block, one.vector * factor) for one in parts]
        added = {"attention": block.attention, "feed-forward": block.feed_forward, "vectors": block.other}
        parts += [StreamPart(kind, number, one[-1]) for kind, one in added.items() if one is not None]
    return parts


class _Heard(Exception):
    """The attention function was called, and nothing more is wanted."""

    def __init__(self, query: Tensor, key: Tensor) -> None:
        self.query, self.key = query, key


def side(
    architecture: Architecture, at: tuple[int, int], heard: BlockInput, parts: list[StreamPart], key: bool
) -> Side:
    """The newest query, or key, of a head. at: block and head, both 1-based. Raises NoScore."""
    block, head = at
    module, attention = architecture.blocks[block - 1], architecture.attention_modules[block - 1]
    if attention is None:
        raise NoScore(f"block {block} of this model has no attention rows")
    with torch.inference_mode(False), torch.enable_grad():
        leaf, args, kwargs = _newest_alone(heard)
        norms = {one: partial(frozen_norm, one, one.forward) for one in module.modules() if is_norm(one)}
        try:
            with standing_in(norms), unwatched([attention], _capture):
                module.forward(*args, **kwargs)
        except _Heard as told:
            query, keys = told.query[0, :, -1], told.key[0, :, -1]
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:  # of whatever model
            raise NoScore(f"its attention cannot be run on one token ({type(error).__name__})") from error
        else:
            raise NoScore("its attention calls no function of queries and keys")
        vector = keys[(head - 1) * len(keys) // len(query)] if key else query[head - 1]
        rows = [torch.autograd.grad(one, leaf, retain_graph=True)[0].flatten() for one in vector]
    jacobian = torch.stack(rows).float()
    whole = vector.detach().float()
    each = torch.stack([jacobian @ part.vector.to(jacobian) for part in parts])
    return Side(whole, each, whole - jacobian @ leaf.detach().flatten().float())


def _newest_alone(heard: BlockInput) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """What a block was given of the newest token: its vector as a leaf, and the arguments with it in them."""
    hidden = heard.args[0] if heard.args else heard.kwargs["hidden_states"]
    n = hidden.shape[1]
    leaf = hidden[:, -1:].detach().clone().requires_grad_()
    kwargs = {name: None if name in HIDES else _newest(one, n) for name, one in heard.kwargs.items()}
    if heard.args:
        return leaf, (leaf, *(_newest(one, n) for one in heard.args[1:])), kwargs
    return leaf, (), kwargs | {"hidden_states": leaf}


def _newest(value: Any, n: int) -> Any:
    """Of what has n positions the last one, in tensors of (1, n, ...) or (n, d)."""
    if isinstance(value, Tensor):
        if value.dim() > 1 and value.shape[1] == n and value.shape[0] == 1:
            return value[:, -1:].clone()
        return value[-1:].clone() if value.dim() == 2 and value.shape[0] == n else value
    if isinstance(value, tuple | list):
        return type(value)(_newest(one, n) for one in value)
    return value


def _capture(module: nn.Module, query: Tensor, key: Tensor, *_: Any, **__: Any) -> Any:
    raise _Heard(query, key)
