"""Gradients at every layer and token: how much what is said hangs on what stands there."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.sites import first_of
from tui_entropy.engine.attribution.embedded_text import EmbeddedText, NoGradient


def node_gradients(text: EmbeddedText, n: int) -> Tensor:
    """(n_layers + 1, n) L2 norm of the gradient of the text's target with respect to the residual stream at each
    layer, at the newest n positions. Raises NoGradient."""
    architecture, stream = text.loaded.architecture, list[Tensor]()

    def given(_: nn.Module, args: Any, kwargs: Any) -> None:
        stream.append(args[0] if args else next(iter(kwargs.values())))

    def put_out(_: nn.Module, args: Any, output: Any) -> None:
        stream.append(first_of(output))

    with torch.enable_grad(), ExitStack() as hooks:
        hooks.callback(architecture.blocks[0].register_forward_pre_hook(given, with_kwargs=True).remove)
        for block in architecture.blocks:
            hooks.callback(block.register_forward_hook(put_out).remove)
        leaf = text.vectors.detach().clone()[None].requires_grad_()
        try:
            target = text.target(text.logits(leaf)).sum()
            found = torch.autograd.grad(target, stream, allow_unused=True)
        except (RuntimeError, NotImplementedError) as error:  # of whatever model
            raise NoGradient(f"no gradient can be had of it ({type(error).__name__})") from error
    norms = [
        torch.full((n,), torch.nan) if one is None else torch.linalg.vector_norm(one[0, -n:].float(), dim=-1).cpu()
        for one in found
    ]
    return torch.stack(norms)
