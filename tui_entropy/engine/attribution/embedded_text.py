"""A text as the vectors that its tokens are embedded as, which can be changed, and what the model makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.models.forward import read
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.steering.plan import offsets_by_token

TOGETHER = 1 << 13
"""Rows of the embedding that are averaged at a time."""


class NoGradient(Exception):
    """Why a model has no gradient: half a sentence."""


@dataclass(frozen=True)
class EmbeddedText:
    """What comes after a text, as a function of the vectors of its tokens. Each call reads all of it."""

    loaded: Loaded
    ids: Tensor
    """(n,)"""
    signs: Mapping[int, float]
    """Token id -> what its logit is multiplied with in the target."""
    vectors: Tensor
    """(n, d) that the tokens are embedded as."""

    def logits(self, vectors: Tensor) -> Tensor:
        """(rows, n, d) -> (rows, vocab) float32 after the last token."""
        ids = self.ids.expand(len(vectors), -1)
        with _embedded_as(self.loaded.architecture, vectors):
            logits: Tensor = read(self.loaded.model, None, ids, logits_to_keep=1).logits[:, -1]
        return logits.float()

    def logits_without(self, kept: Tensor) -> Tensor:
        """(rows, m) places in the text -> (rows, vocab) float32 after the text of these tokens alone."""
        logits: Tensor = read(self.loaded.model, None, self.ids[kept], logits_to_keep=1).logits[:, -1]
        return logits.float()

    def target(self, logits: Tensor) -> Tensor:
        """(rows, vocab) -> (rows,): ln p of the token; of two, the difference."""
        logp = logits.log_softmax(-1)
        return torch.stack([sign * logp[:, token] for token, sign in self.signs.items()]).sum(0)

    def logit(self, logits: Tensor) -> Tensor:
        """(rows, vocab) -> (rows,): the same of logits as they are."""
        return torch.stack([sign * logits[:, token] for token, sign in self.signs.items()]).sum(0)

    def gradient(self, vectors: Tensor) -> tuple[float, Tensor]:
        """(n, d) -> the target there, and its (n, d) gradient. Raises NoGradient."""
        with torch.enable_grad():
            leaf = vectors.detach().clone()[None].requires_grad_()
            try:
                value = self.target(self.logits(leaf))
                (gradient,) = torch.autograd.grad(value.sum(), leaf)
            except (RuntimeError, NotImplementedError) as error:  # of whatever model
                reason = str(error).strip().split("\n", 1)[0][:120]
                raise NoGradient(f"no gradient can be had of it ({type(error).__name__}: {reason})") from error
        return float(value.detach()), gradient[0].float()


@contextmanager
def embedded_text(
    loaded: Loaded,
    watching: Instruments,
    ids: Tensor,
    offsets: Sequence[Mapping[int, Tensor]],
    signs: Mapping[int, float],
) -> Iterator[EmbeddedText]:
    """A text, read under these offsets of each of its tokens (block -> (d_model,)), with nobody's looking on."""
    # All of it is read outside inference mode, which keeps nothing that a gradient could be had from.
    with torch.inference_mode(False), torch.no_grad(), watching.nobody_looking(loaded):
        watching.steering.set(offsets_by_token(offsets))
        here = ids.clone()
        yield EmbeddedText(loaded, here, signs, _vectors(loaded.architecture, here))


def mean_embedding(architecture: Architecture, like: Tensor) -> Tensor:
    """(d,) the mean of what all tokens are embedded as. like: (n, d) of some."""
    total = torch.zeros(like.shape[-1], dtype=torch.float64, device=like.device)
    for first in range(0, architecture.vocab, TOGETHER):
        ids = torch.arange(first, min(first + TOGETHER, architecture.vocab), device=like.device)
        total += _vectors(architecture, ids).double().sum(0)
    return (total / architecture.vocab).to(like.dtype)


def _vectors(architecture: Architecture, ids: Tensor) -> Tensor:
    vectors: Tensor = architecture.embedding(ids[None])[0].detach()
    return vectors


@contextmanager
def _embedded_as(architecture: Architecture, vectors: Tensor) -> Iterator[None]:
    """The model embeds its tokens as these (rows, n, d), for as long as the `with` lasts."""

    def instead(module: nn.Module, args: object, output: Tensor) -> Tensor:
        return vectors.to(output.dtype)

    hook = architecture.embedding.register_forward_hook(instead)
    try:
        yield
    finally:
        hook.remove()
