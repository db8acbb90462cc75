"""A normalisation frozen at the scale that it had: so it is linear, and what is put into it adds up behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tui_entropy.engine.attribution.stand_ins import dtype_of


class NormFacts(NamedTuple):
    """What does not depend on the vector that is normalised."""

    bias: Tensor | None
    """(d,) that is added behind the scale."""
    is_centred: bool
    """The mean is taken off first, as a layer norm does and a root-mean-square norm does not."""


_known: WeakKeyDictionary[nn.Module, NormFacts] = WeakKeyDictionary()


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises vectors, by its name and by its having no matrix."""
    flat = all(parameter.dim() < 2 for parameter in module.parameters())
    return flat and "norm" in type(module).__name__.lower()


def norm_facts(norm: nn.Module, function: Callable[[Tensor], Tensor], like: Tensor) -> NormFacts:
    """The facts of a norm, found by trying it. function: what it does. like: (..., d) vectors that it takes."""
    if norm not in _known:
        with torch.inference_mode(False), torch.no_grad():
            zero = torch.zeros_like(like[..., :1, :])
            ramp = zero + torch.linspace(-1, 2, like.shape[-1], device=like.device).to(like.dtype)
            bias, plain, moved = (function(vector) for vector in (zero, ramp, ramp + 1))
            _known[norm] = NormFacts(
                bias.flatten(0, -2)[0].float() if bool(bias.any()) else None,
                bool((plain - moved).abs().max() < 0.05 * (plain - bias).abs().max()),
            )
    return _known[norm]


def frozen_norm(
    norm: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor, constants: list[Tensor] | None = None
) -> Tensor:
    """(..., d) normalised, with gradients as if what it is divided by were a constant.

    function: what the norm does, by itself. constants: gets the bias, as a leaf, if there is one.
    """
    facts = norm_facts(norm, function, x.to(dtype_of(norm, x.dtype)))
    with torch.no_grad():
        y = function(x.detach().to(dtype_of(norm, x.dtype))).to(x.dtype)
    u = x - x.mean(-1, keepdim=True) if facts.is_centred else x
    scaled = y if facts.bias is None else y - facts.bias
    with torch.no_grad():
        scale = torch.where(u == 0, 0, scaled / u)
    if facts.bias is None:
        return u * scale
    bias = facts.bias
    if constants is not None:
        bias = facts.bias.clone().requires_grad_()
        constants.append(bias)
    return u * scale + bias
