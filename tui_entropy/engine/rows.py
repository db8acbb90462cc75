"""Two texts as rows of one cache and one forward pass, for the price of reading the weights once.

A product of two rows with a large matrix goes through a routine made for many, which brings the matrix into another
layout first and takes twice as long as one row. The same product from the other side, matrix times two columns, reads
the matrix once as it lies in memory, and on one thread is faster than even one row is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tui_entropy.engine.cache import RoomyCache
from tui_entropy.engine.threads import one_thread

if TYPE_CHECKING:
    from tui_entropy.engine.context import Context


@contextmanager
def two_rows(model: nn.Module) -> Iterator[None]:
    """For as long as the `with` lasts, the linear layers of a float32 model on a CPU are given (2, 1, d_in)."""
    linear = _linear(model)
    for module in linear:
        vars(module)["forward"] = partial(_two_columns, module)
    try:
        yield
    finally:
        for module in linear:
            del vars(module)["forward"]


_known: WeakKeyDictionary[nn.Module, list[nn.Linear]] = WeakKeyDictionary()
"""Of each model: to look for them takes longer than some of them take."""


def _linear(model: nn.Module) -> list[nn.Linear]:
    if model not in _known:
        _known[model] = [
            module
            for module in model.modules()
            if type(module) is nn.Linear
            and module.weight.dtype is torch.float32
            and module.weight.device.type == "cpu"
            and "forward" not in vars(module)
        ]
    return _known[model]


def _two_columns(module: nn.Linear, x: Tensor) -> Tensor:
    if x.shape[:-1] != (2, 1):
        return nn.Linear.forward(module, x)
    with one_thread:
        product = torch.mm(module.weight, x[:, 0].T).T[:, None]
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
