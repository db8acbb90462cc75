"""The residual stream at the newest position, as every block leaves it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.architecture.sites import first_of


class ResidualInstrument:
    """The newest position's vector before the first block and after each."""

    def __init__(self, n_layers: int) -> None:
        self.vectors: list[Tensor | None] = no_vectors(n_layers)
        """Per layer, 0 the embedding: (batch, 1, d_model). Put another list here to read another text in between."""

    def stream(self, row: int = 0) -> Tensor:
        """(n_layers, d_model) on one device: what the blocks put out at the newest position of one of the rows."""
        return self.layers(row)[1:]

    def layers(self, row: int = 0) -> Tensor:
        """(n_layers + 1, d_model): the same, behind what the first block was given."""
        found = [vector[row : row + 1, 0] for vector in self.vectors if vector is not None]
        return torch.cat([vector.to(found[-1].device) for vector in found])


def no_vectors(n_layers: int) -> list[Tensor | None]:
    """What a probe has of a text that was not read."""
    return [None] * (n_layers + 1)


def block_stats(stream: Tensor) -> Tensor:
    """(n_layers, d_model) -> (n_layers, len(BLOCKS)) float32 on the device: mean and population standard deviation
    over the d_model numbers, and L2 norm."""
    residual = stream.float()
    mean, norm = residual.mean(-1), torch.linalg.vector_norm(residual, dim=-1)
    # Many times faster than torch.std on a CPU.
    std = torch.linalg.vector_norm(residual - mean.unsqueeze(-1), dim=-1) / math.sqrt(residual.shape[-1])
    return torch.stack([mean, std, norm], -1)


@contextmanager
def residual_instrument(architecture: Architecture) -> Iterator[ResidualInstrument]:
    """Watch what each block puts out, for as long as the `with` lasts.

    Hooks run in the order they were registered, so what a steering hook registered with prepend=True adds is in.
    """
    probe = ResidualInstrument(architecture.n_layers)

    def keep(layer: int, hidden: Tensor) -> None:
        hidden = architecture.streamed(hidden)
        # Of a longer pass a reference would pin every position, and a block may add to what it is given in place.
        probe.vectors[layer] = hidden if hidden.shape[1] == 1 and layer else hidden[:, -1:].clone()

    def given(block: nn.Module, args: Any, kwargs: Any) -> None:
        keep(0, args[0] if args else next(iter(kwargs.values())))

    def put_out(layer: int, output: Any) -> None:
        keep(layer, first_of(output))

    with ExitStack() as hooks:
        hooks.callback(architecture.blocks[0].register_forward_pre_hook(given, with_kwargs=True).remove)
        for layer, block in enumerate(architecture.blocks, 1):
            hook = block.register_forward_hook(lambda _, args, output, at=layer: put_out(at, output))
            hooks.callback(hook.remove)
        yield probe
