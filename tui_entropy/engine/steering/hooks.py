"""Vectors added to the residual stream after chosen blocks, for as long as a `with` lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.steering.plan import same_offsets


class Steering:
    """The offsets that are added now. A change acts from the next forward pass on, at every position of it.

    Keys and values already cached keep the influence of what was set when they were made.
    """

    def __init__(self, blocks: tuple[nn.Module, ...]) -> None:
        self._blocks = blocks
        self.rows: tuple[Mapping[int, Tensor], ...] = ({},)
        """What is set."""
        self._hooks: list[RemovableHandle] = []

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
        hidden: Tensor = output if isinstance(output, Tensor) else output[0]
        push = push.to(hidden.device, hidden.dtype)  # copied by the first pass, the same tensor ever after
        return hidden + push if isinstance(output, Tensor) else type(output)([hidden + push, *output[1:]])

    return hook
