"""Where a part of a block can be scaled: a head, its attention or its feed-forward network."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.sites import Site
from tui_entropy.engine.attribution.pass_record import heard_parts
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decomposition.block_parts import (
    ATTENTION,
    FEED_FORWARD,
    BlockParts,
    Undivided,
    branches,
    watching_blocks,
)
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.steering.hooks import ScaledPart

TRIED = 0.5
"""The factor by which it is found out where a part is scaled."""
SAME = 1e-2
"""Share of the largest number of a part by which two may differ and be the same."""


@torch.inference_mode()
def scaled_part(loaded: Loaded, watching: Instruments, block: int, part: str) -> ScaledPart:
    """Found by reading a few tokens. block: 1-based. part: as `Vector.part`. Raises UserError where there is none."""
    n_layers = loaded.architecture.n_layers
    if not 1 <= block <= n_layers:
        raise UserError(f"there is no block {block}: this model has those from 1 to {n_layers}")
    with watching.nobody_looking(loaded):
        watching.steering.set({})
        return _head(loaded, block, int(part)) if part.isdecimal() else _part(loaded, block, part)


def _head(loaded: Loaded, block: int, head: int) -> ScaledPart:
    """By its columns of what the matrix behind all heads is given."""
    with heard_parts(loaded.architecture) as record:
        _read(loaded)
    kept = record.blocks[block - 1]
    if kept.inner is None or kept.mixed is None or kept.inner[1].shape[-1] != kept.mixed.numel():
        raise UserError(
            f"the heads of block {block} cannot be told apart in {loaded.card.name}: no matrix takes what each of "
            f"them mixed; scale {block}.attention as a whole"
        )
    n_heads, width = kept.mixed.shape
    if head > n_heads:
        raise UserError(f"block {block} has no head {head}: it has those from 1 to {n_heads}")
    return ScaledPart((Site(kept.inner[0], False),), slice((head - 1) * width, head * width))


def _part(loaded: Loaded, block: int, part: str) -> ScaledPart:
    """Behind whatever norm the part goes through before it is added: the first place where a factor makes what is
    added so much smaller, and nothing else that the block adds before it."""
    kind = {"attention": ATTENTION, "feed-forward": FEED_FORWARD}[part]
    plain = _parts(loaded, block)
    added = _added(plain, kind)
    if added is None:
        raise UserError(f"block {block} has no {part}: choose another block or part")
    for sites in _candidates(loaded, block, kind):
        scaled = ScaledPart(sites)
        hooks = [site.hook(lambda vectors: vectors * TRIED, first=True) for site in sites]
        try:
            found = _parts(loaded, block)
        finally:
            for hook in hooks:
                hook.remove()
        if _same(_added(found, kind), added * TRIED) and _same(found.stream, plain.stream):
            return scaled
    raise UserError(f"no place was found in {loaded.card.name} where the {part} of block {block} alone can be scaled")


def _candidates(loaded: Loaded, block: int, kind: str) -> Iterator[tuple[Site, ...]]:
    """The part itself, what stands beside it in the block, such as a norm behind it, and its own matrices, the last
    first: some parts add the stream themselves."""
    module = loaded.architecture.blocks[block - 1]
    parts = [one for one, its in branches(module).items() if its == kind]
    inside = [one for part in parts for one in part.modules() if not list(one.children())]
    yield tuple(map(Site, parts))
    for one in (*module.children(), *reversed(inside)):
        yield (Site(one),)


def _parts(loaded: Loaded, block: int) -> BlockParts:
    with watching_blocks(loaded.architecture, 1) as watch:
        _read(loaded)
    try:
        return watch.parts()[block - 1]
    except Undivided as reason:
        raise UserError(f"no part of a block can be scaled in {loaded.card.name}: {reason}") from None


def _added(parts: BlockParts, kind: str) -> Tensor | None:
    return parts.attention if kind == ATTENTION else parts.feed_forward


def _same(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and float((one - other).abs().max()) <= SAME * float(other.abs().max())


def _read(loaded: Loaded) -> None:
    vocab = loaded.architecture.vocab
    ids = torch.tensor([[vocab // 2, vocab // 3, vocab // 4]], device=loaded.model.device)
    forward(loaded, None, ids)
