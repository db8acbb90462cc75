"""The residual stream at the newest position, as every block leaves it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture


class ResidualProbe:
    """The newest position's vector after each block."""

    def __init__(self, n_layers: int) -> None:
        self.vectors: list[Tensor | None] = [None] * n_layers
        """Per block: (batch, 1, d_model). Put another list here to read another text in between."""

    def stream(self, row: int = 0) -> Tensor:
        """(n_layers, d_model) on one device: what the blocks put out at the newest position of one of the rows."""
        return stream_of(self.vectors, row)


def stream_of(vectors: Sequence[Tensor | None], row: int = 0) -> Tensor:
    """Block by block (batch, 1, d_model) -> (n_layers, d_model) of a row of the batch, on one device."""
    found = [vector[row : row + 1, 0] for vector in vectors if vector is not None]
    return torch.cat([vector.to(found[-1].device) for vector in found])


def block_stats(stream: Tensor) -> Tensor:
    """(n_layers, d_model) -> (n_layers, len(BLOCKS)) float32 on the device: mean and population standard deviation
    over the d_model numbers, and L2 norm."""
    residual = stream.float()
    mean, norm = residual.mean(-1), torch.linalg.vector_norm(residual, dim=-1)
    # Many times faster than torch.std on a CPU.
    std = torch.linalg.vector_norm(residual - mean.unsqueeze(-1), dim=-1) / math.sqrt(residual.shape[-1])
    return torch.stack([mean, std, norm], -1)


@contextmanager
def residual_probe(architecture: Architecture) -> Iterator[ResidualProbe]:
    """Watch what each block puts out, for as long as the `with` lasts.

    Hooks run in the order they were registered, so what a steering hook registered with prepend=True adds is in.
    """
    probe = ResidualProbe(architecture.n_layers)
    with ExitStack() as hooks:
        for index, block in enumerate(architecture.blocks):
            hooks.callback(block.register_forward_hook(_keeping(probe, index, architecture)).remove)
        yield probe


def _keeping(probe: ResidualProbe, index: int, architecture: Architecture) -> Callable[[nn.Module, Any, Any], None]:
    def keep(block: nn.Module, args: Any, output: Any) -> None:
        hidden = architecture.streamed(output if isinstance(output, Tensor) else output[0])
        # Of a longer pass a reference would pin every position.
        probe.vectors[index] = hidden if hidden.shape[1] == 1 else hidden[:, -1:].clone()

    return keep
