"""Direct logit attribution: what each part of a model added to the logit of a token, by the residual stream alone.

The final norm is frozen at the scale that it had, so that the shares add up (Elhage et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.attribution.heads import Heads, heads_of
from tui_entropy.engine.attribution.linear_blocks import Part, gradients, put_together
from tui_entropy.engine.attribution.pass_record import PassRecord
from tui_entropy.engine.decomposition.block_parts import ATTENTION, FEED_FORWARD
from tui_entropy.engine.kernels.threads import one_thread


class NotLinear(Exception):
    """Why a logit of this model is no sum of its parts: half a sentence."""


@dataclass(frozen=True)
class DirectShares:
    """A target (a logit, or the difference of two) as the sum of what was added to it."""

    target: float
    embedding: float
    attention: tuple[float | None, ...]
    """Per block, heads and bias together; None where a block has none."""
    feed_forward: tuple[float | None, ...]
    heads: tuple[Heads, ...]
    """In groups of blocks with as many heads; without blocks whose attention has none that could be told apart."""
    biases: float
    """Those of norms and of the head of the model. Those within attentions and feed-forward blocks count there."""
    vectors: float
    """Of what steers."""
    factors: tuple[float, ...]
    """What follows the head (a cap, a scale) does to each candidate's logit, frozen."""

    @property
    def sum(self) -> float:
        parts = (*self.attention, *self.feed_forward, self.embedding, self.biases, self.vectors)
        return sum(part for part in parts if part is not None)

    @property
    def remainder(self) -> float:
        return self.target - self.sum


@one_thread
def direct_shares(
    record: PassRecord, logits: Tensor, signs: Mapping[int, float], offsets: Mapping[int, Tensor]
) -> DirectShares:
    """Take apart the sum of sign * logit over tokens.

    logits: (vocab,) of the pass. offsets: see `put_together`. Raises NotLinear.
    """
    architecture = record.architecture
    if architecture.n_streams > 1:
        raise NotLinear("its residual stream is several, mixed by weights that follow from what is in them")
    if record.read is None:
        raise NotLinear("its head reads something else than what its blocks put out")
    with torch.inference_mode(False), torch.enable_grad():
        try:
            read, parts = put_together(record, offsets)
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError, StopIteration) as error:
            # Of whatever model, whose code is anybody's.
            raise NotLinear(f"its blocks cannot be put together from their parts ({type(error).__name__})") from error
        heard = record.read.flatten().float()
        # A few roundings of each of the parts that are summed.
        rounding = 256 * torch.finfo(record.read.dtype).eps * float(heard.abs().max())
        if read.shape != heard.shape or float((read.detach() - heard).abs().max()) > max(rounding, 1e-4):
            raise NotLinear("between the sum of what its blocks add and its head stands more than a norm")
        target, bias, factors = _target(architecture, read, heard, logits, signs)
        pulls = gradients(record, target, parts)
    if pulls[0] is None:
        raise NotLinear("its blocks hand on no residual stream that their parts are added to")
    sums: dict[tuple[str, int], float] = {}
    attentions: dict[int, list[tuple[Tensor, Tensor]]] = {}
    reaching = [(part, pull) for part, pull in zip(parts, pulls, strict=True) if pull is not None]
    for (part, pull), share in zip(reaching, _products(reaching), strict=True):
        sums[part.kind, part.block] = sums.get((part.kind, part.block), 0.0) + share
        if part.kind == ATTENTION:
            attentions.setdefault(part.block, []).append((part.vector.detach().flatten(), pull))
    blocks = range(1, architecture.n_layers + 1)
    return DirectShares(
        sum(sign * float(logits[token]) for token, sign in signs.items()),
        sums["embedding", 0],
        tuple(sums.get((ATTENTION, block)) for block in blocks),
        tuple(sums.get((FEED_FORWARD, block)) for block in blocks),
        tuple(heads_of(record, {block: pair for block, (pair, *more) in attentions.items() if not more})),
        bias + sum(share for (kind, _), share in sums.items() if kind == "bias"),
        sum((share for (kind, _), share in sums.items() if kind == "vectors"), 0.0),
        factors,
    )


def _target(
    architecture: Architecture, read: Tensor, heard: Tensor, logits: Tensor, signs: Mapping[int, float]
) -> tuple[Tensor, float, tuple[float, ...]]:
    """What is taken apart, as a function of what the head reads; the part of its bias; and the factors."""
    head = architecture.unembedding
    weight, bias = head.get_parameter("weight"), getattr(head, "bias", None)
    target, constant, factors = read.new_zeros(()), 0.0, []
    for token, sign in signs.items():
        row = weight[token].detach().float()
        added = 0.0 if bias is None else float(bias[token].detach())
        plain = float(row.double() @ heard.double()) + added
        factor = float(logits[token]) / plain if plain else 1.0
        target = target + sign * factor * (row @ read)
        constant += sign * factor * added
        factors.append(factor)
    return target, constant, tuple(factors)


def _products(reaching: Sequence[tuple[Part, Tensor]]) -> list[float]:
    """Of each part's vector with its gradient, in float64 and off the device at once."""
    device = reaching[0][1].device
    with torch.no_grad():
        vectors = torch.cat([part.vector.to(device).view(1, -1) for part, _ in reaching]).double()
        pulls = torch.stack([pull.to(device) for _, pull in reaching]).double()
        products: list[float] = (vectors * pulls).sum(-1).tolist()
    return products
