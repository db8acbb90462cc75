"""The parts of each block that write to the residual stream, heard in a pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.architecture.sites import first_of
from tui_entropy.engine.attribution.frozen_norm import is_norm
from tui_entropy.engine.decomposition.block_parts import ATTENTION, FEED_FORWARD, branches
from tui_entropy.engine.instruments.attention_functions import Attended, overheard
from tui_entropy.engine.kernels.threads import one_thread


@dataclass
class BlockRecord:
    """What one block was given, and what its parts said, in the newest pass."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    hidden: Tensor | None = None
    """(1, 1, d_model) that it was given; None in a block behind the first that is a sum."""
    said: dict[nn.Module, list[Any]] = field(default_factory=dict)
    """Part -> its outputs, in order."""
    copies: list[tuple[Any, Any]] = field(default_factory=list)
    """What each of them was when it was said, and what may have been written over since; of a block of which that is
    not known."""
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


@dataclass
class Layout:
    """What a block is made of, and what was found out about it: each thing that is known is one that need not be
    listened to, and between the matrices of a pass a hook takes some 30 microseconds."""

    norms: tuple[nn.Module, ...]
    parts: tuple[tuple[str, nn.Module], ...]
    """Kind and module of what has weights and is no norm."""
    matrices: tuple[nn.Module, ...]
    """Inside its attention; the last of them alone, once it is found."""
    is_additive: bool = False
    """It adds what its parts say to what it is given, and does nothing else."""
    is_overwriting: bool | None = None
    """It writes over what its parts say; None where that is not known."""
    mixed_shape: torch.Size | None = None
    """(n_heads, d_value) where the last matrix is given what the heads mixed and nothing else."""


@contextmanager
def heard_parts(architecture: Architecture, values: bool = False) -> Iterator[PassRecord]:
    """Keep what the parts of each block say, for as long as the `with` lasts. values: a copy of those too that its
    heads looked at."""
    record = PassRecord(architecture, [BlockRecord() for _ in architecture.blocks])
    of_module = dict[nn.Module, BlockRecord]()
    with ExitStack() as hooks:
        hooks.callback(architecture.blocks[0].register_forward_pre_hook(partial(_begin_pass, record)).remove)
        for n, (kept, layout) in enumerate(zip(record.blocks, layouts(architecture), strict=True)):
            block, attention = architecture.blocks[n], architecture.attention_modules[n]
            if n == 0 or not layout.is_additive:
                hooks.callback(block.register_forward_pre_hook(partial(_begin, kept), with_kwargs=True).remove)
            for _, part in layout.parts:
                hooks.callback(part.register_forward_hook(partial(_hear, kept, layout.is_overwriting)).remove)
            for matrix in layout.matrices:
                hooks.callback(matrix.register_forward_pre_hook(partial(_enter, kept, layout)).remove)
            if attention is not None and (values or layout.mixed_shape is None):
                of_module[attention] = kept
        hooks.enter_context(overheard(of_module, partial(_overhear, of_module, values)))
        hooks.callback(architecture.unembedding.register_forward_pre_hook(partial(_read, record)).remove)
        yield record
    for kept, layout in zip(record.blocks, layouts(architecture), strict=True):
        _finish(kept, layout)


_layouts: WeakKeyDictionary[nn.Module, tuple[Layout, ...]] = WeakKeyDictionary()


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


def _newest(value: Any) -> Any:
    """Of (1, n, ...) tensors the last of the n."""
    if isinstance(value, Tensor):
        return value[:, -1:] if value.dim() == 3 else value
    return type(value)([_newest(one) if isinstance(one, Tensor) else one for one in value])


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return type(value)([_copied(one) if isinstance(one, Tensor) else one for one in value])


def _begin_pass(record: PassRecord, block: nn.Module, args: Any) -> None:
    for kept in record.blocks:
        kept.said, kept.copies, kept.inner, kept.mixed = {}, [], None, None


def _begin(kept: BlockRecord, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    kept.args, kept.kwargs = args, kwargs
    kept.hidden = _newest(args[0] if args else kwargs["hidden_states"]).clone()


def _hear(kept: BlockRecord, is_overwriting: bool | None, part: nn.Module, args: Any, output: Any) -> None:
    said = output if is_overwriting is False else _copied(_newest(output))
    if is_overwriting is None:
        kept.copies.append((said, output))
    kept.said.setdefault(part, []).append(said)


@one_thread
def _overhear(
    of_module: Mapping[nn.Module, BlockRecord], wanted: bool, module: nn.Module, attended: Attended
) -> None:
    kept = of_module[module]
    kept.mixed = attended.mixed[0, -1]
    kept.values = attended.value[0].clone() if wanted else None


def _enter(kept: BlockRecord, layout: Layout, matrix: nn.Module, args: tuple[Any, ...]) -> None:
    if args and (kept.mixed is not None or layout.mixed_shape is not None):
        kept.inner = matrix, args[0]


def _read(record: PassRecord, head: nn.Module, args: tuple[Any, ...]) -> None:
    record.read = _newest(args[0]).clone()


def _finish(kept: BlockRecord, layout: Layout) -> None:
    """What can wait until the pass is over, and what it tells of the block."""
    for outputs in kept.said.values():
        outputs[:] = map(_newest, outputs)
    if kept.inner is not None:
        matrix, given = kept.inner[0], _newest(kept.inner[1])
        kept.inner = matrix, given
        if kept.mixed is None and layout.mixed_shape is not None:
            kept.mixed = given.view(layout.mixed_shape)
        elif kept.mixed is not None and torch.equal(given.flatten(), kept.mixed.flatten()):
            layout.mixed_shape = kept.mixed.shape
        layout.matrices = (matrix,)
    if kept.copies:
        pairs = [(first_of(one), first_of(_newest(other))) for one, other in kept.copies]
        layout.is_overwriting = not all(torch.equal(one, other) for one, other in pairs if isinstance(one, Tensor))
