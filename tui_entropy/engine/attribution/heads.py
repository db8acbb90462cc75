"""The heads of attentions as they write to the residual stream, each through the matrix that stands behind all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from tui_entropy.engine.attribution.pass_record import BlockRecord, PassRecord
from tui_entropy.engine.instruments.attention import AttentionInstrument
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.instruments.row_recording import beside_sinks
from tui_entropy.engine.kernels.threads import one_thread


class Heads(NamedTuple):
    """The heads of some blocks, all with as many."""

    blocks: tuple[int, ...]
    """1-based, m of them."""
    matrices: tuple[nn.Module, ...]
    """What each block has behind its heads."""
    vectors: Tensor
    """(m, n_heads, d_value) what each head gives it."""
    toward: Tensor
    """(m, n_heads, d_value) in which direction that adds to the target: its share is their product."""
    whole: Tensor
    """(m, d_model) the attention's output, heads and bias together."""
    bias_shares: Tensor
    """(m,) float64 of the target."""

    @property
    def shares(self) -> Tensor:
        """(m, n_heads) float64 of the target."""
        return (self.vectors.double() * self.toward.double()).sum(-1)

    @property
    def norm_shares(self) -> Tensor:
        """(m, n_heads) L2 norm of each head's output, as shares of their sum in the block."""
        vectors = self.vectors[:, :, None]
        squares = vectors @ _grams(self) @ vectors.mT
        norms = squares.flatten(1).clamp(min=0).sqrt()
        return norms / norms.sum(-1, keepdim=True)

    @property
    def signed_shares(self) -> Tensor:
        """(m, n_heads) how much of the attention's output lies along each head: with the bias's they sum to 1."""
        return torch.einsum("mhd,md->mh", self.outputs, self.whole) / self.whole.square().sum(-1, keepdim=True)

    @property
    def cosines(self) -> Tensor:
        """(m, n_heads) between each head's output and the whole attention's."""
        cosines: Tensor = cosine_similarity(self.outputs, self.whole[:, None], dim=-1)
        return cosines

    @property
    def outputs(self) -> Tensor:
        """(m, n_heads, d_model) of each head: these and a bias sum to the attention's output."""
        with torch.inference_mode():
            each = [_alone(matrix, vectors) for matrix, vectors in zip(self.matrices, self.vectors, strict=True)]
            return torch.stack([one.to(self.vectors.device) for one in each])


def heads_of(record: PassRecord, attentions: Mapping[int, tuple[Tensor, Tensor]]) -> Iterator[Heads]:
    """The heads of blocks, in groups that have as many, where nothing but a matrix stands between them and the
    attention's output.

    attentions: block -> (d_model,) that output, and in which direction it adds to the target.
    """
    groups: dict[tuple[torch.Size, torch.device], list[_Block]] = {}
    for block, (_, pull) in attentions.items():
        kept = record.blocks[block - 1]
        if kept.inner is None or kept.mixed is None or kept.inner[1].shape[-1] != kept.mixed.numel():
            continue
        matrix, given = kept.inner
        toward, bias = _back_through(matrix, given, pull)
        if toward is not None:
            one = _Block(block, matrix, given.view_as(kept.mixed), toward.view_as(kept.mixed), bias)
            groups.setdefault((kept.mixed.shape, given.device), []).append(one)
    for group in groups.values():
        device = group[0].vectors.device
        whole, pulls = (torch.stack([attentions[one.number][n].to(device) for one in group]) for n in (0, 1))
        heads = Heads(
            tuple(one.number for one in group),
            tuple(one.matrix for one in group),
            torch.stack([one.vectors for one in group]).float(),
            torch.stack([one.toward for one in group]),
            whole,
            torch.stack([one.bias_share for one in group]),
        )
        missing = heads.shares.sum(-1) + heads.bias_shares - (whole.double() * pulls.double()).sum(-1)
        rounding = 64 * torch.finfo(group[0].vectors.dtype).eps * (whole * pulls).abs().double().sum(-1)
        if bool((missing.abs() <= rounding).all()):
            yield heads


class _Block(NamedTuple):
    number: int
    matrix: nn.Module
    vectors: Tensor
    toward: Tensor
    bias_share: Tensor


def _back_through(matrix: nn.Module, given: Tensor, pull: Tensor) -> tuple[Tensor | None, Tensor]:
    """(d_in,) in which direction what a matrix is given adds to the target, if its output does so along `pull`; None
    where it has another width. And what its bias adds."""
    if type(matrix) is nn.Linear and matrix.weight.dtype is torch.float32:
        bias = pull.new_zeros(()) if matrix.bias is None else matrix.bias.detach() @ pull
        return (pull @ matrix.weight.detach() if len(matrix.weight) == len(pull) else None), bias.double()
    with torch.inference_mode(False), torch.enable_grad():
        leaf = torch.zeros_like(given).requires_grad_()
        said = matrix.forward(leaf).flatten().float()
        if said.shape != pull.shape:
            return None, pull.new_zeros(())
        (toward,) = torch.autograd.grad(said, leaf, pull.clone())
    return toward.flatten().float(), (said.detach().double() * pull.double()).sum()


def _alone(matrix: nn.Module, vectors: Tensor) -> Tensor:
    """(n_heads, d_value) -> (n_heads, d_model): each head put through a matrix by itself."""
    n_heads = len(vectors)
    dtype = next((one.dtype for one in matrix.parameters() if one.is_floating_point()), vectors.dtype)
    rows = torch.eye(n_heads + 1, n_heads, dtype=dtype, device=vectors.device)[..., None] * vectors.to(dtype)
    said: Tensor = matrix.forward(rows.flatten(1))
    return (said[:-1] - said[-1]).float()


_known_grams: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def _grams(heads: Heads) -> Tensor:
    """(m, n_heads, d_value, d_value): each head's part of a matrix times itself, from which the length of an output
    follows without the output. Worked out once for a model."""
    first, shape = heads.matrices[0], heads.vectors.shape
    if first not in _known_grams or _known_grams[first].shape[:3] != shape:
        with torch.inference_mode(False), torch.no_grad():
            _known_grams[first] = torch.stack([_gram(matrix, shape) for matrix in heads.matrices])
    return _known_grams[first]


def _gram(matrix: nn.Module, shape: torch.Size) -> Tensor:
    _, n_heads, d_value = shape
    parameter = next(one for one in matrix.parameters() if one.is_floating_point())
    rows = torch.eye(n_heads * d_value, dtype=parameter.dtype, device=parameter.device)
    said = (matrix.forward(rows) - matrix.forward(torch.zeros_like(rows[:1]))).float().view(n_heads, d_value, -1)
    gram: Tensor = said @ said.mT
    return gram


@one_thread
def by_source(kept: BlockRecord, toward: Tensor, weights: Tensor) -> Tensor:
    """(n_heads, keys) float64: each head's share of the target, split over the tokens that it looked at.

    toward: as in `Heads`, of this block. weights: (n_heads, keys) of the newest query. What stands between what heads
    mix and the matrix behind them, such as a gate, is frozen.
    """
    assert kept.inner is not None and kept.mixed is not None and kept.values is not None
    mixed, values = kept.mixed.float(), kept.values
    gate = torch.where(mixed == 0, 0, kept.inner[1].view_as(mixed).float() / mixed)
    of_groups = (toward * gate).view(len(values), -1, mixed.shape[-1])
    along = (of_groups @ values.float().mT).flatten(0, 1)
    return (along * weights).double()


@one_thread
def newest_weights(attention: AttentionInstrument, held: AttentionState) -> dict[int, Tensor]:
    """Block (1-based) -> (n_heads, keys) float32: the newest query's attention row over the keys that it had."""
    known = {}
    for layer in attention.layers:
        if layer.index in held.scores:
            scores = held.scores[layer.index][0].flatten(0, 1)[None]
            known[layer.index + 1] = beside_sinks(scores.softmax(-1), scores, [layer.newest_sinks(0)])[0]
    return known
