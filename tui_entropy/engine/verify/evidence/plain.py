"""One plain pass of a model over a text, with its own eager attention, and what can be seen in it from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tui_entropy.engine.instruments.attention_functions import eager
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.trust import NO_ATTENTION
from tui_entropy.engine.verify.evidence.compare import forward_logits
from tui_entropy.engine.verify.second.belief import Floats

HIDDEN = -1e29
"""Scores below it are those of keys that a mask hides."""
SOFTMAX = (nn.functional.softmax, torch.softmax, Tensor.softmax)


@dataclass(frozen=True)
class Plain:
    """The logits, attention and residual stream of one plain pass over n tokens."""

    logits: Tensor
    """(n, vocab) float32, on the CPU."""
    weights: Mapping[int, Floats]
    """Index of a block with attention -> (n_heads, n, n) rows of its eager formula, a sink's part left out."""
    scores: Mapping[int, Floats]
    """The same before the softmax; what a mask hides is below HIDDEN."""
    streams: Tensor
    """(n_layers, n, d_model) float32 on the CPU: what the blocks put out."""
    missing: str = ""
    """Why there are no attention rows; empty where there are."""
    dtype: torch.dtype = torch.float32
    """Of the model."""
    layers: Mapping[int, Tensor] = field(default_factory=dict)
    """Layer (0 the embedding) -> the same as `logits` with all blocks after it left out. Of those that were asked."""

    def visible(self, block: int, query: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(n,) which keys the mask of that block leaves to that query."""
        seen: np.ndarray[Any, np.dtype[np.bool_]] = self.scores[block][0, query] > HIDDEN
        return seen


def plain(
    loaded: Loaded,
    ids: Tensor,
    offsets: Mapping[int, Tensor] | None = None,
    attention: bool = False,
    layers: Sequence[int] = (),
) -> Plain:
    """Read (n,) ids at once. offsets: block (1-based) -> (d_model,) added to what it puts out. attention: whether
    rows are wanted, for which the model is made eager. layers: those whose logits are wanted too.

    Attention is read off the attention modules themselves: to ask for output_attentions would leave the library's
    hooks behind.
    """
    architecture, watch = loaded.architecture, _Softmaxes(len(ids))
    modules = {
        i: module for i, module in enumerate(architecture.attention_modules) if attention and module is not None
    }
    attentions: dict[int, Tensor | None] = {}
    streams: dict[int, Tensor] = {}

    def put_out(index: int, output: Any) -> Any:
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        if offsets and index + 1 in offsets:
            hidden = hidden + offsets[index + 1].to(hidden)
            output = (hidden, *output[1:]) if isinstance(output, tuple) else hidden
        streams[index] = architecture.streamed(hidden)[0].float().cpu()
        return output

    def attended(index: int, output: Any) -> None:
        watch.block = None
        attentions[index] = output[1]

    with ExitStack() as hooks:
        if modules:
            hooks.enter_context(eager(architecture.decoder))
            hooks.enter_context(watch)
        for index, block in enumerate(architecture.blocks):
            hooks.callback(block.register_forward_hook(lambda _, args, out, at=index: put_out(at, out)).remove)
        for index, module in modules.items():
            hooks.callback(module.register_forward_pre_hook(lambda _, args, at=index: watch.begin(at)).remove)
            hooks.callback(module.register_forward_hook(lambda _, args, out, at=index: attended(at, out)).remove)
        logits = forward_logits(loaded.model, ids).cpu()
    weights = {index: _float64(given[0]) for index, given in attentions.items() if given is not None}
    missing = "" if modules and len(weights) == len(modules) else NO_WEIGHTS if modules else NO_ATTENTION
    scores = {index: _score(given[0], getattr(modules[index], "sinks", None)) for index, given in watch.given.items()}
    of_layers = {layer: left_out(loaded, ids, layer).cpu() for layer in layers}
    stream = torch.stack([streams[i] for i in range(len(streams))])
    return Plain(logits, weights, scores, stream, missing, loaded.model.dtype, of_layers)


def left_out(loaded: Loaded, ids: Tensor, layer: int) -> Tensor:
    """(n,) ids -> (n, vocab) float32 logits, where all blocks after a layer put out what they are given."""
    with ExitStack() as hooks:
        for block in loaded.architecture.blocks[layer:]:
            hooks.callback(block.register_forward_hook(_unchanged, with_kwargs=True).remove)
        return forward_logits(loaded.model, ids)


def _unchanged(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    hidden = args[0] if args else kwargs["hidden_states"]
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


NO_WEIGHTS = "the model's eager attention tells no weights"


class _Softmaxes(TorchFunctionMode):
    """Records attention scores, n queries by their keys: the inputs of softmax, as the model's file computes them."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.block: int | None = None
        """Of the attention module that runs now."""
        self.given: dict[int, Tensor] = {}

    def begin(self, block: int) -> None:
        self.block = block

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SOFTMAX and self.block is not None and args:
            scores: Tensor = args[0]
            if scores.dim() == 4 and scores.shape[-2] == self.n <= scores.shape[-1]:
                self.given[self.block] = scores
        return func(*args, **(kwargs or {}))


def _score(scores: Tensor, sinks: Tensor | None) -> Floats:
    """(n_heads, n, keys) as the softmax was given them. With a sink as a last column rows were shifted before: by as
    much as it differs from what the sink is."""
    if sinks is None or scores.shape[-1] == scores.shape[-2]:
        return _float64(scores)
    shift = sinks.view(-1, 1, 1) - scores[..., -1:]
    return _float64(scores[..., :-1] + shift)


def _float64(tensor: Tensor) -> Floats:
    return tensor.detach().cpu().double().numpy()
