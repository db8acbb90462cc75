"""The residual stream of every layer over several positions: 0 the embedding, k the output of block k."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.architecture.sites import first_of


class StreamWatch:
    """The stream over the newest positions of the passes since `watching_stream` began."""

    def __init__(self, n_layers: int, n: int) -> None:
        self._n = n
        self._seen: list[list[Tensor]] = [[] for _ in range(n_layers + 1)]

    def take(self, layer: int, hidden: Tensor) -> None:
        """hidden: (batch, positions, d_model)."""
        seen = self._seen[layer]
        seen.append(hidden[0, -self._n :].clone())
        while sum(map(len, seen[1:])) >= self._n:
            del seen[0]

    def stream(self) -> Tensor:
        """(n_layers + 1, n, d_model) on the device of the last block, oldest position first."""
        device = self._seen[-1][-1].device
        return torch.stack([torch.cat(seen)[-self._n :].to(device) for seen in self._seen])


@contextmanager
def watching_stream(architecture: Architecture, n: int) -> Iterator[StreamWatch]:
    """Keep the stream at the newest n positions for as long as the `with` lasts, steering included."""
    watch = StreamWatch(architecture.n_layers, n)
    with heard_stream(architecture, watch.take):
        yield watch


@contextmanager
def heard_stream(architecture: Architecture, take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """For as long as the `with` lasts `take` is given each layer of every pass, steering included, as (batch,
    positions, d_model).

    The last layer is what the final norm is given: of a model with several streams what it makes of them all.
    """

    def given(_: nn.Module, args: Any, kwargs: Any) -> None:
        take(0, architecture.streamed(args[0] if args else next(iter(kwargs.values()))))

    def put_out(index: int, output: Any) -> None:
        take(index + 1, architecture.streamed(first_of(output)))

    with ExitStack() as hooks:
        blocks = architecture.blocks if not architecture.tail else architecture.blocks[:-1]
        hooks.callback(architecture.blocks[0].register_forward_pre_hook(given, with_kwargs=True).remove)
        for index, block in enumerate(blocks):
            hook = block.register_forward_hook(lambda _, args, output, at=index: put_out(at, output))
            hooks.callback(hook.remove)
        if architecture.tail:
            hook = architecture.tail[0].register_forward_pre_hook(
                lambda _, args: take(architecture.n_layers, args[0])
            )
            hooks.callback(hook.remove)
        yield
