"""Vectors added to the residual stream after chosen blocks, and parts of blocks scaled, while a `with` lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.architecture.sites import Site, first_of
from tui_entropy.engine.steering.plan import ONE, same_offsets, scales_of


class ScaledPart(NamedTuple):
    """Where a part of a block can be scaled."""

    sites: tuple[Site, ...]
    columns: slice | None = None
    """Of the vectors there, those of a head; None for all."""

    def act(self, factor: Tensor, vectors: Tensor) -> Tensor:
        """factor: (rows or 1, n or 1, 1). vectors: (rows, n, width), or (rows * n, width)."""
        factor = factor.to(vectors.device, vectors.dtype)
        factor = factor.reshape(-1, 1) if vectors.dim() == 2 else factor
        if self.columns is None:
            return vectors * factor
        made = vectors.clone()
        made[..., self.columns] = vectors[..., self.columns] * factor
        return made


class Steering:
    """The offsets that are added now. A change acts from the next forward pass on, at every position of it.

    Keys and values already cached keep the influence of what was set when they were made.
    """

    def __init__(self, blocks: tuple[nn.Module, ...]) -> None:
        self._blocks = blocks
        self.rows: tuple[Mapping[int, Tensor], ...] = ({},)
        """What is set."""
        self._hooks: list[RemovableHandle] = []
        self.parts: dict[tuple[int, str], ScaledPart] = {}
        """Block (1-based) and part -> where it is scaled; whoever sets it has looked for that before."""

    def set(self, *rows: Mapping[int, Tensor]) -> None:
        """For each row of the batch: block (1-based) -> (d_model,) added to its output, or (n, d_model) to that of n
        tokens. One mapping is for all rows. Blocks that are not named run as if nobody watched.

        To set the same again costs nothing; so a mapping must not be changed once it is set.
        """
        if all(same_offsets(row, rows[0]) for row in rows):
            rows = rows[:1]
        if len(rows) == len(self.rows) and all(map(same_offsets, rows, self.rows)):
            return
        self.clear()
        for block, push in beside(rows).items():
            assert 1 <= block <= len(self._blocks), block
            # Before all other hooks: whoever records this output must see what the next block is given.
            hook = self._blocks[block - 1].register_forward_hook(_adding(push), prepend=True)
            self._hooks.append(hook)
        for place, factor in scales_beside(rows).items():
            part = self.parts[place]
            self._hooks += [site.hook(partial(part.act, factor), first=True) for site in part.sites]
        self.rows = rows

    def clear(self) -> None:
        """Leave the blocks as they were found."""
        while self._hooks:
            self._hooks.pop().remove()
        self.rows = ({},)


def beside(rows: Sequence[Mapping[int, Tensor]]) -> Mapping[int, Tensor]:
    """Block -> (rows, 1 or n, d_model), zeros where a row has nothing there; of one row its own."""
    if len(rows) == 1:
        return rows[0]
    every = [(block, push) for row in rows for block, push in row.items()]
    n = max((len(push) for _, push in every if push.dim() > 1), default=1)
    none = {block: torch.zeros_like(push).expand(n, -1) for block, push in every}
    return {block: torch.stack([row.get(block, none[block]).expand(n, -1) for row in rows]) for block in none}


def scales_beside(rows: Sequence[Mapping[int, Tensor]]) -> Mapping[tuple[int, str], Tensor]:
    """Block and part -> (rows, 1 or n, 1) factors, 1 where a row has none."""
    each = [scales_of(row) for row in rows]
    found = {}
    for place in dict.fromkeys(place for scales in each for place in scales):
        factors = [scales.get(place, ONE).reshape(-1, 1) for scales in each]
        n = max(map(len, factors))
        found[place] = torch.stack([factor.expand(n, -1) for factor in factors])
    return found


@contextmanager
def steering(architecture: Architecture) -> Iterator[Steering]:
    """Nothing is added until `set` is called, and nothing is left behind."""
    steered = Steering(architecture.blocks)
    try:
        yield steered
    finally:
        steered.clear()


def _adding(push: Tensor) -> Callable[[nn.Module, Any, Any], Any]:
    """A forward hook for a block that returns a tensor or a sequence that begins with it, (rows, n, d_model)."""

    def hook(block: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal push
        hidden: Tensor = first_of(output)
        push = push.to(hidden.device, hidden.dtype)  # copied by the first pass, the same tensor ever after
        return hidden + push if isinstance(output, Tensor) else type(output)([hidden + push, *output[1:]])

    return hook
