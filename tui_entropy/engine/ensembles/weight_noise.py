"""Noise on the weights of a model's linear layers, drawn anew for each member and added without touching a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D


def noisy_layers(blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """The linear layers of blocks, whose weights can be read as matrices."""
    return [
        module
        for block in blocks
        for module in block.modules()
        if isinstance(module, nn.Linear | Conv1D) and module.weight.is_floating_point()
    ]


@contextmanager
def weight_noise(layers: Sequence[nn.Module], size: float, seed: int) -> Iterator[None]:
    """Each weight W acts as W + size * rms(W) * z, with z of a normal distribution that hangs on the seed and on the
    place of the layer alone."""
    with ExitStack() as hooks:
        for place, layer in enumerate(layers):
            hook = layer.register_forward_hook(_adding(size, seed, place))
            hooks.callback(hook.remove)
        yield


def _adding(size: float, seed: int, place: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        weight = layer.get_parameter("weight")
        draws = torch.Generator(weight.device).manual_seed((seed * 1_000_003 + place) % 2**63)
        noise = torch.randn(weight.shape, generator=draws, device=weight.device, dtype=torch.float32)
        noise *= size * weight.float().square().mean().sqrt()
        matrix = noise.to(weight.dtype)
        return output + functional.linear(inputs[0], matrix if isinstance(layer, nn.Linear) else matrix.T)

    return hook
