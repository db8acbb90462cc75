"""The logit lens: what the model would say if it stopped at a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tui_entropy.engine.architecture.architecture import Architecture


def unembed(model: PreTrainedModel, architecture: Architecture, residual: Tensor) -> Tensor:
    """Residual-stream vectors read as logits. Those of the last block give the model's own.

    residual: (n, d_model) as blocks put them out, before the final norm. Returns (n, vocab) float32.
    Source: nostalgebraist 2020, 'interpreting GPT: the logit lens'.
    """
    return head_logits(model, architecture, architecture.final_norm(residual[None])[0])


def head_logits(model: PreTrainedModel, architecture: Architecture, normed: Tensor) -> Tensor:
    """The same of vectors behind the final norm: (n, width of the head) -> (n, vocab) float32."""
    # What follows the unembedding (a bias, a cap, a factor or a divisor, under names that mean different things in
    # different families) is known best to the model's own file: it runs, with nothing in place of its blocks.
    with _answering(architecture.decoder, normed[None]):
        ids = torch.zeros(1, len(normed), dtype=torch.long, device=model.device)
        logits: Tensor = model.forward(input_ids=ids).logits
    return logits[0].float()


class _Answer:
    """The output of a decoder, as far as a head asks: its last hidden state, and None for all else."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


@contextmanager
def _answering(decoder: nn.Module, hidden: Tensor) -> Iterator[None]:
    """A decoder that reads nothing and returns this, for as long as the `with` lasts."""
    own, attributes = vars(decoder).get("forward"), vars(decoder)
    attributes["forward"] = lambda *args, **kwargs: _Answer(hidden)
    try:
        yield
    finally:
        del attributes["forward"]
        if own is not None:  # one that a library put there to move tensors between devices
            attributes["forward"] = own
