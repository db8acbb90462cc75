"""Products of many rows with a large matrix on a CPU, by oneDNN in place of the BLAS that torch was built with.

It is the same sum in another order, so it differs by rounding. On processors that the BLAS was not made for it takes
three quarters of the time for hundreds of rows, and half of it for tens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from tui_entropy.engine.kernels.two_row_linear import linear_layers


@contextmanager
def many_row_linear(module: nn.Module) -> Iterator[None]:
    """For as long as the `with` lasts, float32 linear layers on a CPU take their products so, where torch can."""
    layers = [layer for layer in linear_layers(module) if "forward" not in vars(layer)] if has_onednn() else []
    for layer in layers:
        vars(layer)["forward"] = partial(_linear, layer)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return made


@cache
def has_onednn() -> bool:
    """Whether this torch has oneDNN, and has it by this name."""
    try:
        one = torch.ones(1, 1)
        with torch.inference_mode():
            return bool(torch.ops.mkldnn._linear_pointwise(one, one, None, "none", [], "") == 1)
    except (AttributeError, RuntimeError):
        return False
