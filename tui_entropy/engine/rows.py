"""Two rows of one token each, for the price of reading the weights once.

A product of two rows with a large matrix goes through a routine made for many, which copies the matrix into another
layout first and so takes twice as long as one row. As a batch of two products of one row with the same matrix, each
runs on a core of its own, reads what the other has just brought into the cache, and is to the bit what it is alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn


@contextmanager
def two_rows(model: nn.Module) -> Iterator[None]:
    """For as long as the `with` lasts, the linear layers of a float32 model on a CPU are given (2, 1, d_in)."""
    linear = [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and module.weight.dtype is torch.float32
        and module.weight.device.type == "cpu"
        and "forward" not in vars(module)
    ]
    for module in linear:
        vars(module)["forward"] = partial(_two_products, module)
    try:
        yield
    finally:
        for module in linear:
            del vars(module)["forward"]


def _two_products(module: nn.Linear, x: Tensor) -> Tensor:
    if x.shape[:-1] != (2, 1):
        return nn.Linear.forward(module, x)
    product = torch.bmm(x, module.weight.T.expand(2, -1, -1))
    return product if module.bias is None else product + module.bias
