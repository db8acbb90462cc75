"""Dropout as in training, on a model that stays in eval mode otherwise: Monte Carlo dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

DROPOUTS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
)


class DropoutMode(TorchFunctionMode):
    """While it is entered, every dropout of torch that has a probability drops, whatever its module's mode is.

    To set modules to training would also turn on what is no dropout: layers skipped whole, noise in a router, running
    means of a norm. So the functions are caught that modules and models call alike.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_active = 0
        """How many calls had something to drop."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in DROPOUTS:
            p = given.get("p", args[1] if len(args) > 1 else 0.5)
            self.n_active += p > 0
            given["training"] = True
            args, given["p"] = args[:1], p
        elif func is functional.scaled_dot_product_attention:
            p = given.get("dropout_p", args[4] if len(args) > 4 else 0.0)
            self.n_active += p > 0
        return func(*args, **given)


@contextmanager
def dropout_on(attention: Iterable[nn.Module | None], seed: int) -> Iterator[DropoutMode]:
    """Passes in the `with` drop as in training, and draw what they drop from this seed alone.

    attention: the modules of attention, which tell the function that attends what to drop only while they train.
    """
    modules = [module for module in attention if module is not None]
    before = [module.training for module in modules]
    devices = {weight.device for module in modules for weight in module.parameters() if weight.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        torch.manual_seed(seed)
        for module in modules:
            module.training = True  # this one alone, and not what is in it
        try:
            with DropoutMode() as mode:
                yield mode
        finally:
            for module, was in zip(modules, before, strict=True):
                module.training = was
