"""The parts of each block that write to the residual stream, put together again as leaves.

In the second run of a block, which costs next to nothing, each of its parts says once more what it said, and norms
are frozen at the scale that they had. So what the block does with its parts, whatever it is (a factor, a norm behind
them, both at once), is linear, and the model's own file does it. Gradients are then exact shares. Blocks that are
known to be plain sums are not run: their parts are added up, and have one gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.sites import first_of
from tui_entropy.engine.attribution.frozen_norm import frozen_norm, is_norm
from tui_entropy.engine.attribution.pass_record import BlockRecord, Layout, PassRecord, layouts
from tui_entropy.engine.attribution.stand_ins import dtype_of, standing_in


class Part(NamedTuple):
    """A vector that was added to the residual stream, or one on the way whose gradient tells how a block is built."""

    kind: str
    """ATTENTION, FEED_FORWARD, 'embedding', 'bias' or 'vectors'; NORM or OUTPUT of what is no part."""
    block: int
    """1-based; 0 for what stands before the first, or behind the last one."""
    vector: Tensor
    """float32"""
    leaf: Tensor
    """Whose gradient is that of this part: the vector itself, or the sum of some of which it is one."""
    norm: nn.Module | None = None
    """Which made this one: it is to be known whether parts alone read it."""


NORM, OUTPUT = "norm", "output"


_beside: WeakSet[nn.Module] = WeakSet()
"""Norms whose outputs go to parts alone, and so need not be worked out again."""


def put_together(record: PassRecord, offsets: Mapping[int, Tensor]) -> tuple[Tensor, list[Part]]:
    """The vector that the head reads, as a linear function of all that was added to the residual stream.

    offsets: block (1-based) -> (d_model,) of vectors that steer. Returns (d,) and the parts, all in float32.
    """
    first = record.blocks[0].hidden
    assert first is not None
    hidden = first.detach().float()
    parts, added = list[Part](), [("embedding", 0, hidden)]
    for block, (kept, layout) in enumerate(zip(record.blocks, layouts(record.architecture), strict=True), 1):
        if layout.is_additive:
            added += ((kind, block, vector) for kind, vector in _said(kept, layout, hidden.shape[-1]))
        else:
            hidden = _sum(hidden, added, parts)
            hidden = _block(record.architecture.blocks[block - 1], block, kept, layout, hidden, parts)
            parts.append(Part(OUTPUT, block, hidden, hidden))
            added = []
        if block in offsets:
            added.append(("vectors", block, offsets[block]))
    hidden = _sum(hidden, added, parts)
    for module in record.architecture.tail:
        if is_norm(module):
            hidden = _frozen(module, module.forward, 0, parts, hidden)
        else:
            hidden = module.forward(hidden.to(dtype_of(module))).float()
    return hidden.flatten(), parts


def gradients(record: PassRecord, target: Tensor, parts: Sequence[Part]) -> list[Tensor | None]:
    """(d,) of each part; None for what does not reach the target by the stream alone, and for what is no part."""
    leaves = list(dict.fromkeys(part.leaf for part in parts))
    pulls = torch.autograd.grad(target, leaves, allow_unused=True)
    of_leaf = {leaf: None if pull is None else pull.flatten() for leaf, pull in zip(leaves, pulls, strict=True)}
    found = [of_leaf[part.leaf] for part in parts]
    together = list(zip(parts, found, strict=True))
    normed = [(part.norm, gradient) for part, gradient in together if part.norm is not None]
    reached = {norm for norm, gradient in normed if gradient is not None}
    _beside.update(norm for norm, _ in normed if norm not in reached)
    outputs = {part.block: gradient for part, gradient in together if part.kind == OUTPUT}
    for block, pull in outputs.items():
        before = outputs.get(block - 1, found[0] if block == 1 else None)
        inside = [gradient for part, gradient in together if part.block == block and part.kind not in (OUTPUT, NORM)]
        if all(one is not None and pull is not None and torch.equal(one, pull) for one in (before, *inside)):
            layouts(record.architecture)[block - 1].is_additive = True
    return [None if part.kind in (OUTPUT, NORM) else gradient for part, gradient in together]


def _said(kept: BlockRecord, layout: Layout, width: int) -> Iterator[tuple[str, Tensor]]:
    """Kind and vector of what the parts of a block gave the residual stream."""
    for kind, part in layout.parts:
        for output in kept.said.get(part, ()):
            if (vector := _vector(output, width)) is not None:
                yield kind, vector


def _sum(hidden: Tensor, added: Sequence[tuple[str, int, Tensor]], parts: list[Part]) -> Tensor:
    """The stream with these added to it. hidden: what it was before, which is the embedding where that is among
    them."""
    if not added:
        return hidden
    with torch.no_grad():
        vectors = torch.cat([vector.view(1, -1).to(hidden.device) for *_, vector in added]).float()
        leaf = vectors.double().sum(0).float().requires_grad_()
    parts.extend(Part(kind, block, one, leaf) for (kind, block, _), one in zip(added, vectors.unbind(), strict=True))
    return leaf.view_as(hidden) if added[0][0] == "embedding" else hidden + leaf


def _block(
    module: nn.Module, block: int, kept: BlockRecord, layout: Layout, hidden: Tensor, parts: list[Part]
) -> Tensor:
    """The output of a block (1-based) for this input, with all that its parts added."""
    functions: dict[nn.Module, Any] = {
        norm: partial(_frozen, norm, norm.forward, block, parts) for norm in layout.norms
    }
    for kind, part in layout.parts:
        functions[part] = partial(_say, iter(kept.said.get(part, ())), kind, block, hidden.shape[-1], parts)
    args, kwargs = kept.args, dict(kept.kwargs)
    if args:
        args = (hidden, *args[1:])
    else:
        kwargs["hidden_states"] = hidden
    with standing_in(functions):
        output = module.forward(*args, **kwargs)
    result: Tensor = first_of(output)
    return result


def _frozen(norm: nn.Module, function: Any, block: int, parts: list[Part], x: Tensor, *args: Any) -> Tensor:
    if norm in _beside:
        return x
    constants: list[Tensor] = []
    out = frozen_norm(norm, function, x, constants)
    parts.extend(Part("bias", block, one, one) for one in constants)
    parts.append(Part(NORM, block, out, out, norm))
    return out


def _say(said: Iterator[Any], kind: str, block: int, width: int, parts: list[Part], *args: Any, **kwargs: Any) -> Any:
    """What a part said, as a leaf."""
    output = next(said)
    vector = _vector(output, width)
    if vector is None:
        return output
    leaf = vector.detach().clone().float().requires_grad_()
    parts.append(Part(kind, block, leaf, leaf))
    # A copy, since some blocks add to it in place.
    return leaf.clone() if isinstance(output, Tensor) else type(output)([leaf.clone(), *output[1:]])


def _vector(output: Any, width: int) -> Tensor | None:
    """What a part gave the residual stream; None where that is no vector as wide."""
    first = first_of(output)
    return first if isinstance(first, Tensor) and first.shape[-1] == width else None
