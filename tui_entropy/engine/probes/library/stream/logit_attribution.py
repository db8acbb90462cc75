"""Direct logit attribution: which head and which block wrote a token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from torch import Tensor

from tui_entropy.engine.attribution.direct import DirectShares, NotLinear, direct_shares
from tui_entropy.engine.attribution.heads import Heads, by_source, newest_weights
from tui_entropy.engine.attribution.pass_record import PassRecord, heard_parts
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.kernels.threads import one_thread
from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.engine.probes.target import AgainstName, Target, TokenName, target_of
from tui_entropy.records.arrays import Grid
from tui_entropy.records.bounds import Number
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Axis, Bars, Cell, Column, Heatmap, Panel, Table, TintedText

MEASURES = {
    "norm": "norm of each head's output, as a share of those of its block",
    "signed": "share of the attention's output that lies along each head",
    "cosine": "cosine between each head's output and the attention's",
}
TOLERANCE = 0.01
"""Of all that is added and taken off: what may remain."""


class DirectOptions(Struct, frozen=True, forbid_unknown_fields=True):
    token: TokenName | None = None
    against: AgainstName | None = None
    k: Annotated[int, Meta(ge=1, le=400, description="How many of the largest parts are told.")] = 12
    measure: Annotated[
        Literal["norm", "signed", "cosine"],
        Meta(description="How the size of a head's output is told beside what it adds."),
    ] = "norm"
    sources: Annotated[
        bool,
        Meta(description="Each head's part is split over the tokens that it looked at: which word, by which head."),
    ] = False
    block: Annotated[Number, Meta(description="Block of the one head that is split; none for all.")] | None = None
    head: Annotated[Number, Meta(description="Its number in the block; none for all.")] | None = None


def compute(at: ProbeContext, options: DirectOptions) -> Iterator[Panel]:
    """The parts that the residual stream is the sum of, each read by the head of the model as far as it is linear."""
    with heard_parts(at.loaded.architecture, options.sources) as record, at.replay(1) as then:
        logits = then.logits
    assert logits is not None
    target = target_of(at, options.token, options.against, int(logits.argmax()))
    try:
        with at.instruments.nobody_looking(at.loaded):
            at.instruments.steering.set({})  # what parts said is as it was scaled
            shares = direct_shares(record, logits, target.signs, at.sequence.offsets[at.position - 1])
    except NotLinear as reason:
        raise Unavailable(str(reason)) from None
    whole = sum(abs(part) for part in (*_blocks(shares), shares.embedding, shares.biases, shares.vectors))
    if not abs(shares.remainder) <= TOLERANCE * max(whole, 1.0):
        raise Unavailable(
            f"its parts do not add up to its logit: {shares.remainder:.3g} is left of {shares.target:.3g}"
        )
    yield _sum(target, shares)
    if options.sources:
        yield from _sources(at, options, record, then.attention_state, shares, target)
    yield _largest(target, shares, options.k)
    yield from _heat_maps(target, shares, at.loaded.architecture.n_heads, options.measure)
    top = max(map(abs, _blocks(shares)), default=0.0) or 1.0
    for name, each in (("attention", shares.attention), ("feed-forward", shares.feed_forward)):
        if any(part is not None for part in each):
            yield Bars(f"{name} of each block", each, Axis.numbered("block", 1, len(each)), target.unit, top)


def _blocks(shares: DirectShares) -> list[float]:
    return [part for part in (*shares.attention, *shares.feed_forward) if part is not None]


def _sum(target: Target, shares: DirectShares) -> Table:
    """Everything, so that it can be added up."""
    rows: list[tuple[Cell, ...]] = [
        ("embedding", shares.embedding),
        ("attention, all heads", sum(part for part in shares.attention if part is not None)),
        ("feed-forward, all blocks", sum(part for part in shares.feed_forward if part is not None)),
        ("biases of norms and head", shares.biases),
        ("vectors that steer", shares.vectors),
        ("remainder", shares.remainder),
        ("difference of logits" if target.is_difference else "logit", shares.target),
    ]
    capped = [factor for factor in shares.factors if abs(factor - 1) > 1e-3]
    frozen = f", and the cap or scale behind the head at {capped[0]:.3g}" if capped else ""
    title = f"what {target.name} is the sum of, with the final norm frozen at its scale{frozen}"
    return Table(title, (Column("part"), Column("adds", target.unit)), tuple(rows))


def _largest(target: Target, shares: DirectShares, k: int) -> Table:
    """Heads, feed-forward blocks and all else, the largest first, whichever way they push."""
    parts: list[tuple[str, float]] = [("embedding", shares.embedding)]
    with_heads = [block for heads in shares.heads for block in heads.blocks]
    for heads in shares.heads:
        rows = zip(heads.blocks, heads.shares.tolist(), heads.bias_shares.tolist(), strict=True)
        for block, each, bias in rows:
            parts += [(f"block {block} head {n}", share) for n, share in enumerate(each, 1)]
            parts.append((f"block {block} attention bias", bias))
    for name, blocks in (("attention", shares.attention), ("feed-forward", shares.feed_forward)):
        parts += [
            (f"block {block} {name}", share)
            for block, share in enumerate(blocks, 1)
            if share is not None and not (name == "attention" and block in with_heads)
        ]
    parts += [("biases of norms and head", shares.biases), ("vectors that steer", shares.vectors)]
    parts = sorted((part for part in parts if part[1]), key=lambda part: -abs(part[1]))
    whole = sum(abs(share) for _, share in parts)
    told: list[tuple[Cell, ...]] = [(name, share, abs(share) / whole) for name, share in parts[:k]]
    if left := [share for _, share in parts[k:]]:
        told.append((f"{len(left)} others", math.fsum(left), sum(map(abs, left)) / whole))
    columns = Column("part"), Column("adds", target.unit), Column("of all that is moved", "share")
    return Table(f"what adds most to {target.name}, or takes most off", columns, tuple(told))


def _heat_maps(target: Target, shares: DirectShares, n_heads: int, measure: str) -> Iterator[Heatmap]:
    """Blocks by heads: what each head adds, what it takes off, and how large its output is."""
    if not shares.heads:
        return
    blank = np.full(
        (len(shares.attention), max(n_heads, *(heads.vectors.shape[1] for heads in shares.heads))), np.nan
    )
    adds, sizes = blank.copy(), blank.copy()
    for heads in shares.heads:
        rows_at, n = np.array(heads.blocks) - 1, heads.vectors.shape[1]
        adds[rows_at, :n] = heads.shares.cpu()
        sizes[rows_at, :n] = _measure(heads, measure).cpu()
    rows, columns = Axis.numbered("block", 1, len(blank)), Axis.numbered("head", 1, blank.shape[1])
    top = float(np.nanmax(np.abs(adds))) or 1.0
    yield Heatmap(f"what each head adds to {target.name}", Grid.of(adds), rows, columns, target.unit, top)
    yield Heatmap(f"what each head takes off {target.name}", Grid.of(-adds), rows, columns, target.unit, top)
    top = 1.0 if measure == "cosine" else float(np.nanmax(sizes)) or 1.0
    yield Heatmap(MEASURES[measure], Grid.of(sizes), rows, columns, "" if measure == "cosine" else "share", top)


@one_thread
def _measure(heads: Heads, measure: str) -> Tensor:
    return heads.cosines if measure == "cosine" else heads.signed_shares if measure == "signed" else heads.norm_shares


def _sources(
    at: ProbeContext,
    options: DirectOptions,
    record: PassRecord,
    held: AttentionState,
    shares: DirectShares,
    target: Target,
) -> Iterator[Panel]:
    """Which word, by which head."""
    weights = newest_weights(at.instruments.attention, held)
    split = {
        block: by_source(record.blocks[block - 1], toward, weights[block])
        for heads in shares.heads
        for block, toward in zip(heads.blocks, heads.toward, strict=True)
        if block in weights and options.block in (None, block)
    }
    if options.head is not None:
        split = {block: each[options.head - 1 : options.head] for block, each in split.items()}
    if not any(len(each) for each in split.values()):
        raise Unavailable("of such a head it is not known which tokens it looked at")
    first_head = options.head or 1
    cells = [
        (block, first_head + n // each.shape[1], at.position - each.shape[1] + n % each.shape[1], share)
        for block, each in split.items()
        for n, share in _largest_cells(each, options.k)
    ]
    cells.sort(key=lambda cell: -abs(cell[3]))
    ids = at.sequence.ids
    rows = [
        (f"block {block} head {head}", at.token(int(ids[key])), key, share)
        for block, head, key, share in cells[: options.k]
    ]
    columns = Column("head"), Column("token"), Column("position"), Column("adds", target.unit)
    yield Table(f"which token spoke for {target.name}, by which head", columns, tuple(rows))
    n_keys = max(each.shape[1] for each in split.values())
    total = np.zeros(n_keys)
    for each in split.values():
        total[n_keys - each.shape[1] :] += each.sum(0).cpu().numpy()
    what = "by all heads" if len(split) > 1 else f"by {options_name(options, split)}"
    yield TintedText.of(f"what each token adds to {target.name} {what}", total, at.position - n_keys, target.unit)


def options_name(options: DirectOptions, split: Mapping[int, Tensor]) -> str:
    block = next(iter(split))
    return f"block {block}" if options.head is None else f"block {block} head {options.head}"


def _largest_cells(each: Tensor, k: int) -> Iterator[tuple[int, float]]:
    flat = each.flatten()
    for n in flat.abs().topk(min(k, len(flat))).indices.tolist():
        yield n, float(flat[n])


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """What each block adds against its output less its input in a plain pass, read by the head in float64."""
    total, *_ = answer.panels
    assert isinstance(total, Table)
    told = {str(row[0]): row[1] for row in total.rows}
    size = float(sum(abs(part) for part in map(_number, told.values())))
    yield Difference(sum(map(_number, list(told.values())[:-1])), _number(told["logit"]), size)
    expected = evidence.direct(evidence.step.token_id)
    if expected is None:
        return
    bars = [panel for panel in answer.panels if isinstance(panel, Bars)]
    added = np.sum([[part or 0.0 for part in one.values] for one in bars], axis=0)
    size = float(np.abs(expected).sum())
    yield Difference([_number(told["embedding"]), *added], expected, size)


def _number(cell: Cell) -> float:
    assert isinstance(cell, int | float)
    return float(cell)


def memory(card: ModelCard, position: int, options: DirectOptions) -> int:
    """Values that are kept, and each head's output."""
    values = 2 * 8 * card.n_layers * position * card.d_model if options.sources else 0
    return values + 4 * card.n_layers * (card.n_heads + 2) * card.d_model


PROBE = Probe(
    "logit-attribution",
    "What each head and each block added to the logit of this token.",
    ONE_PASS,
    DirectOptions,
    compute,
    check,
    memory=memory,
)
