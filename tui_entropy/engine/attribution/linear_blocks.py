"""The parts of each block that write to the residual stream: heard in a pass, and put together again as leaves.

In the second run of a block, which costs next to nothing, each of its parts says once more what it said, and norms
are frozen at the scale that they had. So what the block does with its parts, whatever it is (a factor, a norm behind
them, both at once), is linear, and the model's own file does it. Gradients are then exact shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.attribution.frozen_norm import frozen_norm, is_norm
from tui_entropy.engine.attribution.stand_ins import dtype_of, standing_in
from tui_entropy.engine.decomposition.block_parts import ATTENTION, FEED_FORWARD, branches
from tui_entropy.engine.instruments.attention_functions import Attended, overheard
from tui_entropy.engine.kernels.threads import one_thread


@dataclass
class BlockRecord:
    """What one block was given, and what its parts said, at the newest position of the newest pass."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    hidden: Tensor | None = None
    """(1, 1, d_model) that it was given; None in a block behind the first that is a sum."""
    said: dict[nn.Module, list[Any]] = field(default_factory=dict)
    """Part -> its outputs, in order."""
    inner: tuple[nn.Module, Tensor] | None = None
    """The last matrix inside its attention, and the (1, 1, n_heads * d_value) vector that it was given."""
    mixed: Tensor | None = None
    """(n_heads, d_value) what its heads made of the values that they looked at."""
    values: Tensor | None = None
    """(n_kv_heads, keys, d_value) these, where they were wanted."""


@dataclass
class PassRecord:
    """What was heard of the newest pass."""

    architecture: Architecture
    blocks: list[BlockRecord]
    read: Tensor | None = None
    """(1, 1, d) that the head of the model was given."""


class Part(NamedTuple):
    """A vector that was added to the residual stream, or one on the way whose gradient tells how a block is built."""

    kind: str
    """ATTENTION, FEED_FORWARD, 'embedding', 'bias' or 'vectors'; NORM or OUTPUT of what is no part."""
    block: int
    """1-based; 0 for what stands before the first, or behind the last one."""
    leaf: Tensor
    norm: nn.Module | None = None
    """Which made this one: it is to be known whether parts alone read it."""


NORM, OUTPUT = "norm", "output"


@contextmanager
def heard_parts(architecture: Architecture, values: bool = False) -> Iterator[PassRecord]:
    """Keep what the parts of each block say, for as long as the `with` lasts. values: a copy of those too that its
    heads looked at."""
    record = PassRecord(architecture, [BlockRecord() for _ in architecture.blocks])
    with ExitStack() as hooks:
        hooks.callback(architecture.blocks[0].register_forward_pre_hook(partial(_begin_pass, record)).remove)
        for block, kept, layout in zip(architecture.blocks, record.blocks, layouts(architecture), strict=True):
            if block not in _additive or kept is record.blocks[0]:
                hooks.callback(block.register_forward_pre_hook(partial(_begin, kept), with_kwargs=True).remove)
            for _, part in layout.parts:
                hooks.callback(part.register_forward_hook(partial(_hear, kept)).remove)
            for matrix in behind_heads(layout):
                hooks.callback(matrix.register_forward_pre_hook(partial(_enter, kept)).remove)
        of_module = {
            module: kept
            for module, kept in zip(architecture.attention_modules, record.blocks, strict=True)
            if module is not None
        }
        hooks.enter_context(overheard(of_module, partial(_overhear, of_module, values)))
        hooks.callback(architecture.unembedding.register_forward_pre_hook(partial(_read, record)).remove)
        yield record
    _behind.update(kept.inner[0] for kept in record.blocks if kept.inner is not None)


class Layout(NamedTuple):
    """What a block is made of."""

    norms: tuple[nn.Module, ...]
    parts: tuple[tuple[str, nn.Module], ...]
    """Kind and module of what has weights and is no norm."""
    matrices: tuple[nn.Module, ...]
    """Inside its attention."""


_layouts: WeakKeyDictionary[nn.Module, tuple[Layout, ...]] = WeakKeyDictionary()
_beside: WeakSet[nn.Module] = WeakSet()
"""Norms whose outputs go to parts alone, and so need not be worked out again."""


_additive: WeakSet[nn.Module] = WeakSet()
"""Blocks that were found to add what their parts say to what they are given, and to do nothing else."""


_behind: WeakSet[nn.Module] = WeakSet()
"""Matrices that were found to be the last inside their attention."""


def behind_heads(layout: Layout) -> tuple[nn.Module, ...]:
    """The matrix behind the heads of a block, and until that is found all that it may be."""
    return tuple(matrix for matrix in layout.matrices if matrix in _behind) or layout.matrices


def layouts(architecture: Architecture) -> tuple[Layout, ...]:
    """Per block; looked for once."""
    if architecture.decoder not in _layouts:
        _layouts[architecture.decoder] = tuple(
            Layout(
                tuple(filter(is_norm, block.children())),
                tuple((_kind(block, attention, part), part) for part in _speaking(block)),
                tuple(_matrices(attention)),
            )
            for block, attention in zip(architecture.blocks, architecture.attention_modules, strict=True)
        )
    return _layouts[architecture.decoder]


def _speaking(block: nn.Module) -> Iterator[nn.Module]:
    for part in block.children():
        if not is_norm(part) and not isinstance(part, nn.ModuleList) and any(True for _ in part.parameters()):
            yield part


def _matrices(module: nn.Module | None) -> Iterator[nn.Module]:
    for part in () if module is None else module.modules():
        own = (*part.parameters(recurse=False), *part.buffers(recurse=False))
        if not list(part.children()) and any(one.dim() == 2 for one in own):
            yield part


def _kind(block: nn.Module, attention: nn.Module | None, part: nn.Module) -> str:
    """ATTENTION for the part of a block that looks at other tokens, FEED_FORWARD for others."""
    if attention is not None:
        return ATTENTION if attention in set(part.modules()) else FEED_FORWARD
    return branches(block).get(part, FEED_FORWARD)


def put_together(record: PassRecord, offsets: Mapping[int, Tensor]) -> tuple[Tensor, list[Part]]:
    """The vector that the head reads, as a linear function of all that was added to the residual stream.

    offsets: block (1-based) -> (d_model,) of vectors that steer. Returns (d,) and the parts, which are leaves, all in
    float32.
    """
    architecture, parts = record.architecture, list[Part]()
    first = record.blocks[0].hidden
    assert first is not None
    hidden = _leaf(first)
    parts.append(Part("embedding", 0, hidden))
    for block, kept in enumerate(record.blocks, 1):
        if architecture.blocks[block - 1] in _additive:
            hidden = _added(architecture, block, kept, hidden, parts)
        else:
            hidden = _block(architecture, block, kept, hidden, parts)
            parts.append(Part(OUTPUT, block, hidden))
        if block in offsets:
            offset = offsets[block].to(hidden.device).clone().float().requires_grad_()
            parts.append(Part("vectors", block, offset))
            hidden = hidden + offset
    for module in architecture.tail:
        if is_norm(module):
            hidden = _frozen(module, module.forward, 0, parts, hidden)
        else:
            hidden = module.forward(hidden.to(dtype_of(module))).float()
    return hidden.flatten(), parts


def gradients(architecture: Architecture, target: Tensor, parts: Sequence[Part]) -> list[Tensor | None]:
    """Of each part; None for what does not reach the target by the residual stream alone, and for what is no part."""
    found = list(torch.autograd.grad(target, [part.leaf for part in parts], allow_unused=True))
    together = list(zip(parts, found, strict=True))
    normed = [(part.norm, gradient) for part, gradient in together if part.norm is not None]
    reached = {norm for norm, gradient in normed if gradient is not None}
    _beside.update(norm for norm, _ in normed if norm not in reached)
    outputs = {part.block: gradient for part, gradient in together if part.kind == OUTPUT}
    for block, pull in outputs.items():
        before = outputs.get(block - 1, found[0] if block == 1 else None)
        inside = [gradient for part, gradient in together if part.block == block and part.kind not in (OUTPUT, NORM)]
        if all(one is not None and pull is not None and torch.equal(one, pull) for one in (before, *inside)):
            _additive.add(architecture.blocks[block - 1])
    return [None if part.kind in (OUTPUT, NORM) else gradient for part, gradient in together]


def _added(architecture: Architecture, block: int, kept: BlockRecord, hidden: Tensor, parts: list[Part]) -> Tensor:
    """The output of a block (1-based) that is a sum."""
    for kind, part in layouts(architecture)[block - 1].parts:
        for output in kept.said.get(part, ()):
            if (leaf := _leaf_of(output, hidden.shape[-1])) is not None:
                parts.append(Part(kind, block, leaf))
                hidden = hidden + leaf
    return hidden


def _block(architecture: Architecture, block: int, kept: BlockRecord, hidden: Tensor, parts: list[Part]) -> Tensor:
    """The output of a block (1-based) for this input, with all that its parts added."""
    module, layout = architecture.blocks[block - 1], layouts(architecture)[block - 1]
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
    return output if isinstance(output, Tensor) else output[0]


def _frozen(norm: nn.Module, function: Any, block: int, parts: list[Part], x: Tensor, *args: Any) -> Tensor:
    if norm in _beside:
        return x
    constants: list[Tensor] = []
    out = frozen_norm(norm, function, x, constants)
    parts.extend(Part("bias", block, one) for one in constants)
    parts.append(Part(NORM, block, out, norm))
    return out


def _say(said: Iterator[Any], kind: str, block: int, width: int, parts: list[Part], *args: Any, **kwargs: Any) -> Any:
    """What a part said, as a leaf."""
    output = next(said)
    leaf = _leaf_of(output, width)
    if leaf is None:
        return output
    parts.append(Part(kind, block, leaf))
    # A copy, since some blocks add to it in place.
    return leaf.clone() if isinstance(output, Tensor) else type(output)([leaf.clone(), *output[1:]])


def _leaf_of(output: Any, width: int) -> Tensor | None:
    """What a part gave the residual stream; None where that is no vector as wide."""
    first = output if isinstance(output, Tensor) else output[0]
    return _leaf(first) if isinstance(first, Tensor) and first.shape[-1] == width else None


def _leaf(vector: Tensor) -> Tensor:
    return vector.detach().clone().float().requires_grad_()


def _newest(value: Any) -> Any:
    """Of (1, n, ...) tensors a copy of the last of the n: some blocks add to them in place."""
    if isinstance(value, Tensor):
        return value[:, -1:].clone() if value.dim() == 3 else value
    return type(value)([_newest(one) if isinstance(one, Tensor) else one for one in value])


def _begin_pass(record: PassRecord, block: nn.Module, args: Any) -> None:
    for kept in record.blocks:
        kept.said, kept.inner, kept.mixed = {}, None, None


def _begin(kept: BlockRecord, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    kept.args, kept.kwargs = args, kwargs
    kept.hidden = _newest(args[0] if args else kwargs["hidden_states"])


def _hear(kept: BlockRecord, part: nn.Module, args: Any, output: Any) -> None:
    kept.said.setdefault(part, []).append(_newest(output))


@one_thread
def _overhear(
    of_module: Mapping[nn.Module, BlockRecord], wanted: bool, module: nn.Module, attended: Attended
) -> None:
    kept = of_module[module]
    kept.mixed = attended.mixed[0, -1]
    kept.values = attended.value[0].clone() if wanted else None


def _enter(kept: BlockRecord, matrix: nn.Module, args: tuple[Any, ...]) -> None:
    if args and kept.mixed is not None:
        kept.inner = matrix, _newest(args[0])


def _read(record: PassRecord, head: nn.Module, args: tuple[Any, ...]) -> None:
    record.read = _newest(args[0])
