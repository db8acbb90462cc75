"""The scorer: what a model thought of the tokens of many passages, read in batches, steered as a run would be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from tui_entropy.engine.architecture.parts import taken_by
from tui_entropy.engine.instruments.prompt_scores import PROMPT_METRICS, final_residual, scores
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.kernels.onednn_linear import PackedLinear, many_row_linear
from tui_entropy.engine.measure.finite import first_broken, refuse
from tui_entropy.engine.models.forward import read
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.attention import AttentionDiagonals, AttentionEntropies, heard_attention
from tui_entropy.engine.scoring.batches import Places, Together, batches, padded
from tui_entropy.engine.scoring.layers import N_ROWS, LayerTables, heard_layers
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.predictions import Likeliest, Predict
from tui_entropy.engine.steering.hooks import Steering, steering
from tui_entropy.engine.steering.plan import Offsets, scales_of
from tui_entropy.metrics.metric import Metric

POOL = 128
"""Passages that are sorted by length together; they come out in the order that they came in."""
OffsetsOf = Callable[[Passage], Mapping[int, Tensor]]
"""What steers a passage: block (1-based) -> (d_model,), or (n_tokens, d_model) where each token has its own."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of each passage."""

    scores: tuple[Metric, ...] = PROMPT_METRICS
    """Of each token; the first of them is unknown of nothing but logits that are no numbers."""
    residual: bool = False
    """The vectors that the final norm reads."""
    lens: tuple[Metric, ...] = ()
    """Of every layer, through the final norm and the unembedding; each `on_prompt`."""
    attention: bool = False
    """The entropy of attention rows, of every block."""
    diagonal: tuple[int, ...] = ()
    """Blocks (1-based) of which it is told how much of its attention each token gives itself."""
    hidden: bool = False
    """Mean, standard deviation and norm of the residual stream, of every layer."""
    predict: Predict | None = None
    """What comes behind the last token."""
    temperature: float = 1.0
    """What logits are divided by, those of layers too."""


@dataclass(frozen=True)
class PassageScores:
    """What was found of a passage, on the host. In the order of its positions; NaN is unknown."""

    scores: Tensor
    """(n, len(Wanted.scores)) float32"""
    layers: LayerTables
    predictions: Likeliest = field(default_factory=list)
    residual: Tensor | None = None
    """(n, d_model) on the model's device; None where nobody asked."""
    diagonal: Tensor | None = None
    """(blocks, n_heads, n_tokens) 0 ... 1, of the blocks of `Wanted.diagonal` that have attention; None for none."""


def score(
    loaded: Loaded,
    passages: Iterable[Passage],
    wanted: Wanted | None = None,
    offsets: OffsetsOf | None = None,
    *,
    together: Together = "padded",
    pool: int = POOL,
) -> Iterator[PassageScores]:
    """Score passages, in the order in which they come; `pool` of them are looked at ahead, to be batched.

    together: which may stand in a batch; `together_of` (trial.py) says what is exact. Raises NotFinite for logits
    that are no numbers.
    """
    waiting, head = iter(passages), PackedLinear(loaded.architecture.unembedding, N_ROWS)
    with steering(loaded.architecture) as steer:
        while some := list(islice(waiting, pool)):
            found: dict[int, PassageScores] = {}
            for batch in batches(some, together):
                its = score_batch(loaded, [some[at] for at in batch], wanted, offsets, steer, head)
                found.update(zip(batch, its, strict=True))
            yield from (found[at] for at in range(len(some)))


@torch.inference_mode()
def score_batch(
    loaded: Loaded,
    passages: Sequence[Passage],
    wanted: Wanted | None = None,
    offsets: OffsetsOf | None = None,
    steer: Steering | None = None,
    head: PackedLinear | None = None,
) -> list[PassageScores]:
    """Score passages in one pass, each padded to the longest. head: the unembedding, which every layer is read
    through, as it was laid out for another batch. Raises NotFinite."""
    wanted = wanted or Wanted()
    with ExitStack() as faster:
        if wanted.lens:
            head = head or PackedLinear(loaded.architecture.unembedding, N_ROWS)
            faster.enter_context(head.taking(lay_out=True))
        faster.enter_context(many_row_linear(loaded.model))
        return _score_batch(loaded, passages, wanted, offsets, steer)


def _score_batch(
    loaded: Loaded, passages: Sequence[Passage], wanted: Wanted, offsets: OffsetsOf | None, steer: Steering | None
) -> list[PassageScores]:
    architecture, device = loaded.architecture, loaded.model.device
    places, ids = Places(passages, device), padded(passages, device)
    with ExitStack() as watching:
        if offsets is not None:
            steer = steer or watching.enter_context(steering(architecture))
            steer.set(*_rows(list(map(offsets, passages)), ids.shape[1]))
        layers = watching.enter_context(heard_layers(loaded, places, wanted.lens, wanted.hidden, wanted.temperature))
        held = watching.enter_context(final_residual(architecture))  # last, behind what layers read through the norm
        heard = AttentionEntropies(architecture.n_layers, places) if wanted.attention else None
        diagonals = AttentionDiagonals(wanted.diagonal) if wanted.diagonal else None
        takers = [one.take for one in (heard, diagonals) if one is not None]
        watching.enter_context(heard_attention(architecture, takers))
        _read(loaded, ids)
    residual = places.of(held.batch)
    targets = places.targets.to(residual.device)
    table = torch.empty(len(targets), 0)
    if metrics := tuple(dict.fromkeys((*wanted.scores, *wanted.lens))):
        found = scores(loaded.model, architecture, residual, targets, metrics, wanted.temperature)
        layers.take_last(found[:, [metrics.index(one) for one in wanted.lens]])
        table = found[:, : len(wanted.scores)].cpu()
    if wanted.scores and (at := first_broken(table.numpy())) is not None:
        where = f"at token {int(places.positions[at]) + 1} of a text"
        refuse(unembed(loaded.model, architecture, residual[at : at + 1])[0], where)
    tables = layers.tables(heard.table() if heard else None).by_passage(places.sizes)
    likeliest: dict[int, Likeliest] = {}
    if wanted.predict is not None and places.asked:
        rows, ends = places.ends.to(held.batch.device).unbind(1)
        logits = unembed(loaded.model, architecture, held.batch[rows, ends]) / wanted.temperature
        likeliest = dict(
            zip(places.asked, wanted.predict(logits, [passages[row] for row in places.asked]), strict=True)
        )
    kept = torch.split(residual, places.sizes) if wanted.residual else [None] * len(passages)
    own = diagonals.by_row(list(map(len, passages))) if diagonals else [None] * len(passages)
    return [
        PassageScores(its, its_layers, likeliest.get(row, []), vectors, its_own)
        for row, (its, its_layers, vectors, its_own) in enumerate(
            zip(torch.split(table, places.sizes), tables, kept, own, strict=True)
        )
    ]


def _read(loaded: Loaded, ids: Tensor) -> None:
    """One pass of which the logits are not wanted."""
    if not loaded.architecture.left_to_right:
        loaded.architecture.decoder(input_ids=ids)
        return
    # The blocks of a decoder that is told would leave out the other tokens too.
    keep = {} if "logits_to_keep" in taken_by(loaded.architecture.decoder) else {"logits_to_keep": 1}
    read(loaded.model, None, ids, **keep)


def _rows(offsets: Sequence[Mapping[int, Tensor]], n_tokens: int) -> list[Mapping[int, Tensor]]:
    """The same, those of each token as long as the batch: what is behind a text is not steered."""

    def long(push: Tensor, none: float) -> Tensor:
        if push.dim() == none_dims[none]:
            return push
        rest = push.new_full((n_tokens - len(push), *push.shape[1:]), none)
        return torch.cat([push, rest])

    none_dims = {0.0: 1, 1.0: 0}
    rows: list[Mapping[int, Tensor]] = []
    for its in offsets:
        scales = {place: long(factor, 1.0) for place, factor in scales_of(its).items()}
        pushes = {block: long(push, 0.0) for block, push in its.items()}
        same = all(push is its[block] for block, push in pushes.items()) and not scales
        rows.append(its if same else Offsets(None, pushes, scales))
    return rows
