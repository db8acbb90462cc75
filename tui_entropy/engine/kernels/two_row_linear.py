"""Two texts as rows of one cache and one forward pass, for the price of reading the weights once.

A product of two rows with a large matrix goes through a routine made for many, which brings the matrix into another
layout first and takes twice as long as one row. The same product from the other side, matrix times two columns, reads
the matrix once as it lies in memory, and is often faster on one thread than even one row is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tui_entropy.engine.kernels.threads import one_thread


@contextmanager
def two_row_linear(model: nn.Module, by_columns: bool) -> Iterator[None]:
    """For as long as the `with` lasts, the linear layers of a model take (rows, 1, d_in), one row or two, as columns
    if that is wanted (products.py). Whatever else they are given they take as ever.

    A row by itself is doubled. So one row and two go through the same product, and a row has the same numbers to the
    bit whether another stands beside it or not.
    """
    modules = [module for module in linear_layers(model) if by_columns and "forward" not in vars(module)]
    for module in modules:
        vars(module)["forward"] = partial(linear_by_columns, module)
    try:
        yield
    finally:
        for module in modules:
            del vars(module)["forward"]


LARGE = 1 << 22
"""Weights of a product that takes so long that waking more threads for it pays: half a millisecond and more."""


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers whose products can be taken as columns."""
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear and module.weight.dtype is torch.float32 and module.weight.device.type == "cpu"
    ]


def linear_by_columns(module: nn.Linear, x: Tensor) -> Tensor:
    """A layer's output for (rows, 1, d_in): one row or two taken as columns, anything else as ever."""
    shape = x.shape
    if len(shape) != 3 or shape[0] > 2 or shape[1] != 1:
        return nn.Linear.forward(module, x)
    n = shape[0]
    rows = (torch.cat((x, x)) if n == 1 else x.contiguous()).view(2, -1)
    # Weight and rows change places: the product is (d_out, 2).
    with nullcontext() if module.weight.numel() > LARGE else one_thread:
        product = linear(module.weight, rows).t()[:n].contiguous().view(n, 1, -1)  # some models view their rows
    return product if module.bias is None else product + module.bias
