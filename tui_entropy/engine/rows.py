"""Two texts as rows of one cache and one forward pass, for the price of reading the weights once.

A product of two rows with a large matrix goes through a routine made for many, which brings the matrix into another
layout first and takes twice as long as one row. The same product from the other side, matrix times two columns, reads
the matrix once as it lies in memory, and is often faster on one thread than even one row is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tui_entropy.engine.cache import RoomyCache
from tui_entropy.engine.threads import one_thread

if TYPE_CHECKING:
    from tui_entropy.engine.context import Context


@contextmanager
def few_rows(model: nn.Module) -> Iterator[None]:
    """For as long as the `with` lasts, the linear layers of a model take (rows, 1, d_in), one row or two, as columns
    where that is faster. Whatever else they are given they take as ever.

    A row by itself is doubled. So one row and two go through the same product, and a row has the same numbers to the
    bit whether another stands beside it or not.
    """
    found = [module for module in _linear(model) if "forward" not in vars(module)] if by_columns(model) else []
    for module in found:
        vars(module)["forward"] = partial(_two_columns, module)
    try:
        yield
    finally:
        for module in found:
            del vars(module)["forward"]


_faster: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Of each model: whether two columns take less time than one row."""
LARGE = 1 << 22
"""Weights of a product that takes so long that waking more threads for it pays: half a millisecond and more."""
CLEARLY = 0.9
"""Of the time of one row: what two columns must stay below, so that noise does not decide."""


def _linear(model: nn.Module) -> list[nn.Linear]:
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear and module.weight.dtype is torch.float32 and module.weight.device.type == "cpu"
    ]


def by_columns(model: nn.Module) -> bool:
    """Which of the two a processor and its library do faster is found by trying, once for each model."""
    if model not in _faster:
        largest = max(_linear(model), key=lambda module: module.weight.numel(), default=None)
        _faster[model] = largest is not None and _tried(_two_columns, largest) < CLEARLY * _tried(
            nn.Linear.forward, largest
        )
    return _faster[model]


def _tried(way: Callable[[nn.Linear, Tensor], Tensor], module: nn.Linear) -> float:
    """Seconds that one row takes, the best of several."""
    row, seconds = torch.ones(1, 1, module.in_features), []
    for _ in range(5):
        began = perf_counter()
        way(module, row)
        seconds.append(perf_counter() - began)
    return min(seconds)


def _two_columns(module: nn.Linear, x: Tensor) -> Tensor:
    shape = x.shape
    if len(shape) != 3 or shape[0] > 2 or shape[1] != 1:
        return nn.Linear.forward(module, x)
    n = shape[0]
    rows = (torch.cat((x, x)) if n == 1 else x.contiguous()).view(2, -1)
    # Weight and rows change places: the product is (d_out, 2).
    with nullcontext() if module.weight.numel() > LARGE else one_thread:
        product = linear(module.weight, rows).t().reshape(2, 1, -1)[:n]
    return product if module.bias is None else product + module.bias


def can_stack(watched: Context, own: Context) -> bool:
    """Whether two contexts can share forward passes: as many tokens, and keys and values that are kept as rows."""
    both = isinstance(watched.cache, RoomyCache) and isinstance(own.cache, RoomyCache)
    return both and (watched.n_read, watched.n_tokens) == (own.n_read, own.n_tokens)


def stack(watched: Context, own: Context) -> None:
    """From now on one forward pass is for both."""
    assert isinstance(watched.cache, RoomyCache) and isinstance(own.cache, RoomyCache)
    watched.cache = own.cache = watched.cache.over(own.cache)
    watched.rows = own.rows = [watched, own]


def part(watched: Context) -> None:
    """Each has a cache of its own again, in the memory that they shared."""
    rows, cache = watched.rows, watched.cache
    if len(rows) > 1:
        assert isinstance(cache, RoomyCache)
        for n, row in enumerate(rows):
            row.cache, row.rows = cache.row(n), [row]
