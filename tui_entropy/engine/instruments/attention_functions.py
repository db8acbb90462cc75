"""The functions that the attention modules of a model call, replaced by ours and put back.

The library keeps these functions in a registry by name, one for all models. Ours stands there under the name of the
model's own, since the code of some models asks for that: for what sparse attention picked there is another way to
tell it to a function of another name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.utils.generic import GeneralInterface

from tui_entropy.engine.kernels import causal_sdpa

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

NAME = "tui_entropy"
"""In place of eager attention, which stands in no registry."""
EAGER_SCORES = 1 << 24
"""Scores that an eager formula may hold at a time: its queries are taken in stretches of as many as fit."""

_functions: dict[nn.Module, AttentionFunction] = {}
"""What each attention module of a model calls."""


class Attended(NamedTuple):
    """One call of an attention function."""

    query: Tensor
    """(batch, n_heads, queries, d_head)"""
    value: Tensor
    """(batch, n_kv_heads, keys, d_value)"""
    mixed: Tensor
    """(batch, queries, n_heads, d_value) that heads made of these values."""


def own_function(decoder: PreTrainedModel) -> AttentionFunction:
    """The function that computes a model's attention as its own would, of a long text too."""
    return causal_sdpa.attend if _name(decoder) != "eager" and decoder._supports_sdpa else _eager_in_stretches


@contextmanager
def calling(decoder: PreTrainedModel, functions: Mapping[nn.Module, AttentionFunction]) -> Iterator[None]:
    """For as long as the `with` lasts, attention modules of a model call these. However it is left, the model's
    attention implementation is as it was."""
    original = _name(decoder)
    name = NAME if original == "eager" else original
    _functions.update(functions)
    with _registered(AttentionInterface, name, _attend), _registered(AttentionMaskInterface, name, causal_sdpa.mask):
        if name != original:
            decoder.set_attn_implementation(name)
        try:
            yield
        finally:
            if name != original:
                decoder.set_attn_implementation(original)
            for module in functions:
                del _functions[module]


@contextmanager
def overheard(modules: Iterable[nn.Module], hear: Callable[[nn.Module, Attended], None]) -> Iterator[None]:
    """For as long as the `with` lasts, what attention modules mix is told too, of those that call a function of
    ours."""
    own = {module: _functions[module] for module in modules if module in _functions}

    def telling(function: AttentionFunction, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        output = function(module, *args, **kwargs)
        query, value = (args[n] if len(args) > n else kwargs[name] for n, name in ((0, "query"), (2, "value")))
        hear(module, Attended(query, value, output[0]))
        return output

    _functions.update({module: partial(telling, function) for module, function in own.items()})
    try:
        yield
    finally:
        _functions.update(own)


@contextmanager
def unwatched(modules: Iterable[nn.Module], function: AttentionFunction) -> Iterator[None]:
    """For as long as the `with` lasts, attention modules that call a function of ours call this one."""
    own = {module: _functions[module] for module in modules if module in _functions}
    _functions.update(dict.fromkeys(own, function))
    try:
        yield
    finally:
        _functions.update(own)


@contextmanager
def eager(decoder: PreTrainedModel) -> Iterator[None]:
    """Eager attention for as long as the `with` lasts."""
    before = str(decoder.config._attn_implementation)
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


@contextmanager
def _registered(registry: type[GeneralInterface], name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = registry().get(name, function)
    registry.register(name, function)
    try:
        yield
    finally:
        registry.register(name, before)


def _name(decoder: PreTrainedModel) -> str:
    return str(decoder.config._attn_implementation)


def _attend(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    # Of another model, whose masks are made as ours are while this stands in the registry.
    function: AttentionFunction = _functions.get(module, causal_sdpa.attend)
    return function(module, *args, **kwargs)


def _eager_in_stretches(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """The formula in the model's own file, a stretch of queries at a time, for models that sdpa cannot compute."""
    formula = inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]
    n_queries, n_keys = query.shape[2], key.shape[2]
    stretch = max(EAGER_SCORES // (query.shape[0] * query.shape[1] * n_keys), 1)
    outputs = []
    for start in range(0, n_queries, stretch):
        part = query[:, :, start : start + stretch]
        if attention_mask is not None:
            mask = attention_mask[:, :, start : start + stretch]
        else:  # left out because it would be plainly causal
            ends = torch.arange(part.shape[2], device=query.device) + n_keys - n_queries + start
            mask = (torch.arange(n_keys, device=query.device) <= ends[:, None])[None, None]
        if mask.dtype is torch.bool:
            mask = torch.where(mask, 0.0, torch.finfo(query.dtype).min).to(query.dtype)
        outputs.append(formula(module, part, key, value, mask, **kwargs)[0])
    return torch.cat(outputs, 1), None
