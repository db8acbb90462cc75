"""The product of several rows with a large matrix by oneDNN, if wanted of a matrix that was laid out for it once.

The usual routine brings the matrix into another layout at every call, which for seven rows of the head of a small
model takes longer than the product does. oneDNN does so in less time, and in none where a copy is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tui_entropy.engine.kernels.many_row_linear import has_onednn

MAX_BYTES = 1 << 28
"""Of a matrix that is kept in another layout too: this much more memory is taken."""
N_ROWS = 8
"""Rows that the layout is for; it serves any number."""


class PackedLinear:
    """A linear layer in float32 on a CPU; any other is left as it is."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
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
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), N_ROWS)
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
