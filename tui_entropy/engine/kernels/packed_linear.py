"""The product of a few rows with a large matrix, of which a copy was laid out for that once.

A routine for many rows brings the matrix into another layout at every call, which for seven rows of the head of a
small model takes longer than the product does. oneDNN takes one that was laid out before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

MAX_BYTES = 1 << 28
"""Of a matrix that is laid out a second time: this much more memory is taken."""
N_ROWS = 8
"""Rows that the layout is for; it serves any number."""


class PackedLinear:
    """A linear layer on a CPU in float32, whose matrix is laid out when it is first asked."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._packed: Tensor | None = None
        self._of: Tensor | None = None
        """The matrix that was laid out."""

    def release(self) -> None:
        """Give the memory back, until it is asked again."""
        self._packed = self._of = None

    @contextmanager
    def taking(self) -> Iterator[None]:
        """For as long as the `with` lasts, the layer takes its products so, if it is one that can."""
        attributes = vars(self._module)
        if not self._is_packed():
            yield
            return
        own = attributes.get("forward")
        attributes["forward"] = self._forward
        try:
            yield
        finally:
            del attributes["forward"]
            if own is not None:
                attributes["forward"] = own

    def _is_packed(self) -> bool:
        module = self._module
        if type(module) is not nn.Linear or module.weight.dtype is not torch.float32:
            return False
        weight = module.weight
        if weight.device.type != "cpu" or weight.nbytes > MAX_BYTES:
            return False
        if self._of is not weight:
            self._of, self._packed = weight, None
            with suppress(AttributeError, RuntimeError):  # of a build or a processor that has no such operator
                self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), N_ROWS)
        return self._packed is not None

    def _forward(self, x: Tensor) -> Tensor:
        rows: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.reshape(-1, x.shape[-1]), self._packed, self._module.bias, "none", [], ""
        )
        return rows.view(*x.shape[:-1], -1)
