"""The parts of what a block puts out: the stream that it was given, attention, feed-forward network; x + a + f = y.

Families norm, scale and order these parts in ways of their own: with norms behind them, with factors, side by side
instead of one after the other. They are not known by name here. While a block runs its additions are watched, and its
output is followed back through them to what was added: so a part is what came to stand in the sum, behind whatever
norm or factor it went through, and the parts of a block add up to its output however it is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.architecture.sites import first_of

MIXING = {"attention_mask", "past_key_values", "cache_params", "layer_past", "past_key_value", "cache", "mask"}
"""What a module takes that reads other positions: they are masked, or kept in a cache."""
SUMS = {"add", "add_", "__iadd__"}
PRODUCTS = {"mul", "mul_", "__rmul__", "__imul__"}
SCALES = PRODUCTS | {"div", "div_", "true_divide"}
COPIES = {"to", "float", "type", "type_as", "contiguous", "clone", "dropout", "view", "reshape"}
"""Functions of the library by what they are to a sum; dropout does nothing to a model that is not trained."""
TOLERANCE = 64
"""Roundings, each of the largest number of a row, by which the parts may miss what the block put out."""
NO_SUM = "what its blocks put out is no sum with what they were given: it is normed or mixed behind the addition"
STREAMS = "its residual stream is several side by side, to which no block only adds"
STREAM, ATTENTION, FEED_FORWARD, OTHER = "stream", "attention", "feed-forward", "other"


@dataclass(frozen=True)
class BlockParts:
    """Of one block at the newest positions, oldest first: tensors of (n, d_model) float32 that add up to `output`."""

    stream: Tensor
    """x: what the block was given, scaled where the block scales it."""
    attention: Tensor | None
    """a: of attention, or whatever else in it reads other positions; None for a block that has none."""
    feed_forward: Tensor | None
    """f: of what works on each position by itself; None for a block that has none."""
    other: Tensor | None
    """What is added beside, such as steering."""
    output: Tensor
    """y: what the next block is given."""

    @property
    def intermediate(self) -> Tensor:
        """x + a: the stream behind attention. Of a block that computes both side by side it is never read."""
        return self.stream if self.attention is None else self.stream + self.attention


class Undivided(Exception):
    """Why the output of a block is no such sum: half a sentence."""


class BlockWatch:
    """The parts of every block over the newest positions of the passes since `watching_blocks` began."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._seen: dict[int, list[BlockParts | Undivided]] = {}

    def take(self, block: int, parts: BlockParts | Undivided) -> None:
        """block: 0-based. Of what was seen before as much is kept as the wanted positions need."""
        seen = self._seen.setdefault(block, [])
        seen.append(parts)
        n = 0
        for at, one in reversed(list(enumerate(seen))):
            n += 0 if isinstance(one, Undivided) else len(one.output)
            if n >= self._n:
                del seen[:at]
                break

    def parts(self) -> list[BlockParts]:
        """Of each block in turn. Raises Undivided for the first that is no sum."""
        return [self._joined(self._seen[block]) for block in sorted(self._seen)]

    def _joined(self, seen: list[BlockParts | Undivided]) -> BlockParts:
        divided: list[BlockParts] = []
        for one in seen:
            if isinstance(one, Undivided):
                raise one
            divided.append(one)

        def joined(name: str) -> Tensor | None:
            each = [getattr(one, name) for one in divided]
            if all(part is None for part in each):
                return None
            filled = [
                torch.zeros_like(one.output) if part is None else part
                for part, one in zip(each, divided, strict=True)
            ]
            return torch.cat(filled)[-self._n :]

        stream, output = joined("stream"), joined("output")
        assert stream is not None and output is not None
        return BlockParts(stream, joined("attention"), joined("feed_forward"), joined("other"), output)


@contextmanager
def watching_blocks(architecture: Architecture, n: int) -> Iterator[BlockWatch]:
    """Watch what each block adds at the newest n positions, for as long as the `with` lasts; steering is in it."""
    watch = BlockWatch(n)
    with ExitStack() as hooks:
        for index, block in enumerate(architecture.blocks):
            additions = _Additions(n)

            def began(_: nn.Module, args: Any, kwargs: Any, additions: _Additions = additions) -> None:
                additions.begin(args[0] if args else next(iter(kwargs.values())))

            def ended(_: nn.Module, args: Any, output: Any, at: int = index, seen: _Additions = additions) -> None:
                watch.take(at, seen.end(first_of(output)))

            hooks.callback(block.register_forward_pre_hook(began, with_kwargs=True).remove)
            hooks.callback(block.register_forward_hook(ended).remove)
            hooks.callback(additions.close)
            for module, kind in branches(block).items():

                def entered(_: nn.Module, args: Any, kind: str = kind, seen: _Additions = additions) -> None:
                    seen.branch = kind

                def left(_: nn.Module, args: Any, out: Any, kind: str = kind, seen: _Additions = additions) -> None:
                    seen.branch = kind

                hooks.callback(module.register_forward_pre_hook(entered).remove)
                hooks.callback(module.register_forward_hook(left).remove)
        yield watch


def branches(block: nn.Module) -> Mapping[nn.Module, str]:
    """The modules of a block that compute what is added, and what each is. Norms, which have no matrix, are none.

    Where no module can be told to read other positions, the first one does: so it is in recurrent families.
    """
    modules = _with_matrices(block)
    kinds = {child: ATTENTION if _mixes(child) else FEED_FORWARD for child in modules}
    if len(modules) > 1 and ATTENTION not in kinds.values():
        kinds[modules[0]] = ATTENTION
    return kinds


def _with_matrices(block: nn.Module) -> list[nn.Module]:
    children = [
        part for child in block.children() for part in (child if isinstance(child, nn.ModuleList) else [child])
    ]
    return [child for child in children if any(weight.ndim > 1 for weight in child.parameters())]


def _mixes(module: nn.Module) -> bool:
    return not MIXING.isdisjoint(inspect.signature(module.forward).parameters)


@dataclass(frozen=True)
class _Made:
    """A tensor of the stream's size, and how it came about: as a sum of others, or else all by itself."""

    value: Tensor
    branch: str
    """What ran when it was made."""
    terms: tuple[tuple[_Made, float], ...] = ()
    """Those that were added up, each with its factor."""

    def leaves(self, factor: float = 1.0) -> Iterator[tuple[_Made, float]]:
        """All that was added up to it, with factors."""
        if not self.terms:
            yield self, factor
        for term, times in self.terms:
            yield from term.leaves(factor * times)


class _Additions(TorchFunctionMode):
    """The additions of one block while it runs."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._n = n
        self._made: dict[int, _Made] = {}
        """By the identity of tensors, which it keeps: so no other gets the same one."""
        self._size = 0
        self._open = False
        self.branch = OTHER

    def begin(self, stream: Tensor) -> None:
        self.close()
        self._made, self._size = {id(stream): _Made(stream, STREAM)}, stream.numel()
        self.branch = OTHER
        self.__enter__()  # type: ignore[no-untyped-call]
        self._open = True

    def close(self) -> None:
        """Also where a block raised and never came to its end."""
        if self._open:
            self._open = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def end(self, output: Tensor) -> BlockParts | Undivided:
        self.close()
        made, self._made = self._made.get(id(output)), {}
        if output.dim() != 3:
            return Undivided(STREAMS)
        rows = slice(max(output.shape[1] - self._n, 0), None)
        sums: dict[str, Tensor] = {}
        for leaf, factor in made.leaves() if made else ():
            value = _shaped(leaf.value, output)
            part = value[0, rows].float() * factor
            sums[leaf.branch] = sums[leaf.branch] + part if leaf.branch in sums else part
        if STREAM not in sums:
            return Undivided(NO_SUM)
        whole = output[0, rows].float().clone()
        parts = torch.stack(list(sums.values()))
        bound = TOLERANCE * torch.finfo(output.dtype).eps * parts.abs().amax((0, -1))
        if not bool(((parts.sum(0) - whole).abs().amax(-1) <= bound).all()):
            return Undivided(NO_SUM)
        return BlockParts(sums[STREAM], sums.get(ATTENTION), sums.get(FEED_FORWARD), sums.get(OTHER), whole)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        terms = self._terms(getattr(func, "__name__", ""), args, kwargs)
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and out.numel() == self._size and (terms or not any(out is one for one in args)):
            self._made[id(out)] = _Made(out, self.branch, terms)
        return out

    def _terms(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[_Made, float], ...]:
        """The tensors that a call adds up, scales or copies, as they are before it: some write into one of them."""
        summed = [one for one in args[:2] if isinstance(one, Tensor) and one.numel() > 1]
        if name in SUMS and len(summed) == 2 and not kwargs:
            return tuple((self._before(one, name), 1.0) for one in summed)
        if name in SCALES and len(summed) == 1 and len(args) == 2:
            factor = float(args[1] if args[0] is summed[0] else args[0])
            return ((self._before(summed[0], name), factor if name in PRODUCTS else 1 / factor),)
        if name in COPIES and summed and args[0] is summed[0]:
            return ((self._before(summed[0], name), 1.0),)
        return ()

    def _before(self, tensor: Tensor, name: str) -> _Made:
        known = self._made.get(id(tensor))
        if known is None:
            known = _Made(tensor, self.branch if isinstance(tensor, nn.Parameter) else OTHER)
        return replace(known, value=tensor.clone()) if name.endswith("_") else known


def _shaped(value: Tensor, output: Tensor) -> Tensor:
    """What was added, in the shape of the sum: that of the same size in another order of axes, or one row for all."""
    return value.reshape(output.shape) if value.numel() == output.numel() else value.expand_as(output)
