"""Decoding: vectors of the residual stream as logits, by either embedding and behind either part of the final norm.

Source: InTraVisTo (Belardinelli et al. 2025) for the decoders and what they are called.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.instruments.unembed import head_logits

DecoderName = Literal["output", "input", "linear", "quadratic", "max"]
NormName = Literal["norm-and-scale", "only-norm", "none"]
SMALL = 0.01
"""The length of a vector at which nothing of it is left to be read."""


class Undecodable(Exception):
    """Why a model's vectors cannot be read so: half a sentence."""


@dataclass(frozen=True)
class Decoding:
    """A way to read vectors as logits. Raises Undecodable where this model has none such."""

    model: PreTrainedModel
    architecture: Architecture
    decoder: DecoderName = "output"
    """Of which embedding: that of the output, that of the input, both mixed by depth, or whichever is surer."""
    norm: NormName = "norm-and-scale"
    """The final norm as it is trained, without its weights, or not at all."""

    def __post_init__(self) -> None:
        if self.decoder != "output" and self._input.shape != self._output.shape:
            raise Undecodable(
                f"its input embedding is {_shape(self._input)} and its output embedding {_shape(self._output)}, so "
                "there is one way only to read vectors: decoder=output"
            )

    @property
    def _input(self) -> Tensor:
        return self.architecture.embedding.get_parameter("weight")

    @property
    def _output(self) -> Tensor:
        return self.architecture.unembedding.get_parameter("weight")

    @property
    def tied(self) -> bool:
        """Both embeddings are one, so all decoders say the same."""
        return self._input is self._output or self._input.data_ptr() == self._output.data_ptr()

    def logits(self, vectors: Tensor, depth: Tensor) -> Tensor:
        """(m, d_model) as blocks put them out -> (m, vocab) float32. depth: (m,) from 0, the embedding, to 1, the
        last block."""
        normed = self.normed(vectors)
        by_output = head_logits(self.model, self.architecture, normed)
        if self.decoder == "output" or self.tied:
            return by_output
        with self._reading_by_input():
            by_input = head_logits(self.model, self.architecture, normed)
        share = self._output_share(by_input, by_output, depth)
        return torch.lerp(by_input, by_output, share.to(by_output)[:, None])

    def _output_share(self, by_input: Tensor, by_output: Tensor, depth: Tensor) -> Tensor:
        """(m,) weight of the output embedding against that of the input."""
        match self.decoder:
            case "input":
                return torch.zeros_like(depth)
            case "linear":
                return depth
            case "quadratic":
                return depth.square()
        sure = [logits.log_softmax(-1).amax(-1) for logits in (by_input, by_output)]
        return (sure[1] >= sure[0]).float()

    def normed(self, vectors: Tensor) -> Tensor:
        """(m, d_model) -> (m, width of the head)."""
        hidden = vectors[None]
        for module in self.architecture.tail:
            is_norm = all(weight.ndim < 2 for weight in module.parameters())
            if not is_norm or self.norm == "norm-and-scale":
                hidden = module(hidden)
            elif self.norm == "only-norm":
                hidden = neutral(module)(hidden)
        return hidden[0]

    def iterative(self, vectors: Tensor, depth: Tensor, k: int) -> list[list[int]]:
        """Of each vector up to k different tokens, each the likeliest of what is left when the embeddings of those
        before it are taken off; it ends where nothing is left, or what is left grows."""
        if self._output.shape[1] != vectors.shape[1]:
            raise Undecodable("its head reads vectors of another width than its blocks put out: secondary=top-k")
        left = vectors.float()
        found: list[list[int]] = [[] for _ in vectors]
        going = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
        for _ in range(k):
            logits = self.logits(left.to(vectors.dtype), depth)
            token = logits.argmax(-1)
            for at, one in enumerate(token.tolist()):
                if going[at] and one not in found[at]:
                    found[at].append(one)
            before = left.norm(dim=-1)
            left = torch.where(going[:, None], left - self._embedding_of(token, left, depth), left)
            after = left.norm(dim=-1)
            going &= (after > SMALL) & (after < before)
            if not going.any():
                break
        return found

    def _embedding_of(self, token: Tensor, left: Tensor, depth: Tensor) -> Tensor:
        """(m, d_model) float32 of tokens, in the mixture that they were read by."""
        by_output = self._output[token].float()
        if self.decoder == "output" or self.tied:
            return by_output
        share = depth
        if self.decoder == "max":
            normed = self.normed(left.to(self._output.dtype))
            with self._reading_by_input():
                by_input = head_logits(self.model, self.architecture, normed)
            share = self._output_share(by_input, head_logits(self.model, self.architecture, normed), depth)
        else:
            share = self._output_share(by_output, by_output, depth)
        return torch.lerp(self._input[token].float(), by_output, share.to(by_output)[:, None])

    @contextmanager
    def _reading_by_input(self) -> Iterator[None]:
        """The head with the input embedding in place of its own, and all else that the model does behind it."""
        parameters = self.architecture.unembedding._parameters
        own = parameters["weight"]
        parameters["weight"] = self.architecture.embedding.get_parameter("weight")
        try:
            yield
        finally:
            parameters["weight"] = own


def neutral(norm: nn.Module) -> nn.Module:
    """A copy of a norm whose weights change nothing: ones, or the zeros of families that add one to them."""
    plain = copy.deepcopy(norm)
    probe = torch.linspace(-1, 2, max((weight.numel() for weight in norm.parameters()), default=2))
    for value in (1.0, 0.0):
        for name, weight in plain.named_parameters():
            weight.data.fill_(0.0 if name.endswith("bias") else value)
        some = next(plain.parameters(), probe)
        size = plain(probe.to(some.device, some.dtype)[None, None]).float().square().mean()
        if abs(float(size) - 1) < 0.1:
            break
    return plain


def _shape(matrix: Tensor) -> str:
    return " x ".join(map(str, matrix.shape))
