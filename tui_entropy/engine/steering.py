"""Vectors added to the residual stream after chosen blocks, for as long as a `with` lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tui_entropy.engine.anatomy import Anatomy


class Steering:
    """What is being added now. A change acts from the next forward pass on, at every position of it.

    Keys and values already cached keep the influence of what was set when they were made.
    """

    def __init__(self, blocks: tuple[nn.Module, ...]) -> None:
        self._blocks = blocks
        self._pushes: Mapping[int, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def set(self, pushes: Mapping[int, Tensor]) -> None:
        """Block (1-based) -> (d_model,) added to its output. Blocks that are not named run as if nobody watched.

        To set the same mapping again costs nothing; so it must not be changed once it is set.
        """
        if pushes is self._pushes:
            return
        self.clear()
        for block, push in pushes.items():
            assert 1 <= block <= len(self._blocks), block
            # Before all other hooks: whoever records this output must see what the next block is given.
            hook = self._blocks[block - 1].register_forward_hook(_adding(push), prepend=True)
            self._hooks.append(hook)
        self._pushes = pushes

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is set inside is taken away after it, and what was set before is set again."""
        pushes = self._pushes
        try:
            yield
        finally:
            self.set(pushes)

    def clear(self) -> None:
        """Leave the blocks as they were found."""
        while self._hooks:
            self._hooks.pop().remove()
        self._pushes = {}


@contextmanager
def steering(anatomy: Anatomy) -> Iterator[Steering]:
    """Nothing is added until `set` is called, and nothing is left behind."""
    steered = Steering(anatomy.blocks)
    try:
        yield steered
    finally:
        steered.clear()


def _adding(push: Tensor) -> Callable[[nn.Module, Any, Any], Any]:
    """A forward hook for a block that returns a tensor or a tuple that begins with it, (..., d_model)."""

    def hook(block: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal push
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        push = push.to(hidden.device, hidden.dtype)  # copied by the first pass, the same tensor ever after
        return (hidden + push, *output[1:]) if isinstance(output, tuple) else hidden + push

    return hook
