"""Products with large matrices on a CPU, by oneDNN in place of the BLAS that torch was built with.

It is the same sum in another order, so it differs by rounding. On processors that the BLAS was not made for it takes
three quarters of the time for hundreds of rows, and half of it for tens. The usual routine also brings the matrix
into another layout at every call, which for seven rows of the head of a small model takes longer than the product
does; where a matrix was laid out once and is kept, nothing is left of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from tui_entropy.engine.kernels.two_row_linear import linear_layers

MAX_BYTES = 1 << 28
"""Of a matrix that is kept in another layout too: this much more memory is taken."""


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


class PackedLinear:
    """A linear layer in float32 on a CPU whose matrix may be laid out for oneDNN; any other is left as it is."""

    def __init__(self, module: nn.Module, n_rows: int = 8) -> None:
        """n_rows: that the layout is for; it serves any number, most of them as fast."""
        self._module, self._n_rows = module, n_rows
        self._packed: Tensor | None = None
        self._of: Tensor | None = None
        """The matrix that was laid out."""

    @contextmanager
    def taking(self, lay_out: bool) -> Iterator[None]:
        """For as long as the `with` lasts, the layer takes its products so. lay_out: keep a copy in that layout,
        until `release`, if it is not too large."""
        module, attributes = self._module, vars(self._module)
        if not _is_supported(module):
            yield
            return
        weight = module.get_parameter("weight")
        if lay_out and self._of is not weight and weight.nbytes <= MAX_BYTES:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), self._n_rows)
            self._of = weight
        own = attributes.get("forward")
        attributes["forward"] = self._forward
        try:
            yield
        finally:
            del attributes["forward"]
            if own is not None:
                attributes["forward"] = own

    def release(self) -> None:
        """Give the memory of the copy back."""
        self._packed = self._of = None

    def _forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self._module.get_parameter("weight")
        weight = self._packed if self._packed is not None and self._of is weight else weight
        rows, bias = x.reshape(-1, x.shape[-1]), self._module.bias
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product.view(*x.shape[:-1], -1)


def _is_supported(module: nn.Module) -> bool:
    if type(module) is not nn.Linear or not has_onednn():
        return False
    return module.weight.dtype is torch.float32 and module.weight.device.type == "cpu"


@cache
def has_onednn() -> bool:
    """Whether this torch has oneDNN, and has it by this name."""
    try:
        one = torch.ones(1, 1)
        with torch.inference_mode():
            return bool(torch.ops.mkldnn._linear_pointwise(one, one, None, "none", [], "") == 1)
    except (AttributeError, RuntimeError):
        return False
