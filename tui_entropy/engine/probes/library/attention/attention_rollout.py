"""Attention rollout, and attention flow: from which tokens attention led to this one, through all blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from msgspec import Meta, Struct

from tui_entropy.engine.information_flow.attention_maps import NoRows, attention_maps, groups
from tui_entropy.engine.information_flow.max_flow import max_flows
from tui_entropy.engine.information_flow.rollout import capacities, through_block
from tui_entropy.engine.information_flow.whole_text import whole_text
from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Cell, Column, Note, Panel, Table, TintedText

QUERY_BYTES = 1 << 26
"""Of the queries that are kept at a time: a longer text is read several times, for some blocks each."""
SINK = "what the first token of the text gets is set aside and the rest of each row renormalised"


class RolloutOptions(Struct, frozen=True, forbid_unknown_fields=True):
    method: Annotated[
        Literal["rollout", "flow"],
        Meta(
            description="rollout: attention matrices multiplied up; flow: the most that could flow from the token "
            "to each, with attention as what edges can carry."
        ),
    ] = "rollout"
    residual: Annotated[
        float, Meta(ge=0, lt=1, description="What a token keeps of its own in each block, beside attention.")
    ] = 0.5
    first: Annotated[
        Literal["aside", "kept"],
        Meta(description="The first token of the text, on which attention rests: set aside, or one as all others."),
    ] = "aside"
    blocks: (
        Annotated[int, Meta(ge=1, le=2**16, description="How many blocks back from the last one; none for all.")]
        | None
    ) = None
    window: Annotated[
        int,
        Meta(ge=2, le=64, description="Of flow: tokens that are told apart; all text before them is one."),
    ] = 32
    k: Annotated[int, Meta(ge=1, le=400, description="How many of the largest tokens are told.")] = 12


def compute(at: ProbeContext, options: RolloutOptions) -> Iterator[Panel]:
    """From the token whose pass chose the one asked about, back to the text. Heads are averaged."""
    try:
        values = _rollout(at, options) if options.method == "rollout" else _flow(at, options)
    except NoRows as reason:
        raise Unavailable(str(reason)) from None
    first = at.position - len(values)
    yield Note(f"attention {options.method}, mean of heads", _about(options, values, first))
    told = values if options.method == "rollout" or not first else values[1:]
    yield TintedText.of(f"attention {options.method}", told, at.position - len(told), "share")
    yield _largest(at, told, options.k)


def _rollout(at: ProbeContext, options: RolloutOptions) -> Sequence[float]:
    """Of each token before. Not the matrices but the one row that is wanted goes through the blocks."""
    n, watching = at.position, at.instruments.attention
    shares = torch.zeros(n, dtype=torch.float64, device=at.loaded.model.device)
    shares[-1] = 1.0
    blocks, ids, offsets = _blocks(at, options), at.sequence.ids[:n], at.sequence.offsets[:n]
    for group in groups(watching, blocks, n, QUERY_BYTES):
        reading = whole_text(at.loaded, at.instruments, ids, offsets, group[0])
        with attention_maps(watching, group, n) as maps, reading:
            for block in group:
                at.progress(blocks[0] - block, len(blocks))
                shares = through_block(shares, maps, block, options.residual, options.first == "aside")
    found: list[float] = shares.tolist()
    return found


def _flow(at: ProbeContext, options: RolloutOptions) -> Sequence[float]:
    """Of each token of the window, and of all text before it as the first one, if there is any."""
    n, watching = min(options.window, at.position), at.instruments.attention
    blocks = _blocks(at, options)[::-1]
    with attention_maps(watching, blocks, n) as maps, at.replay(n):
        matrices = [
            capacities(maps, block, at.position - n, at.position, options.residual, options.first == "aside")
            for block in blocks
        ]
    flows = max_flows([matrix.numpy() for matrix in matrices], at.progress)
    return flows[0 if n < at.position else 1 :].tolist()  # type: ignore[no-any-return]


def _blocks(at: ProbeContext, options: RolloutOptions) -> range:
    """The blocks that are gone through, the last first."""
    n_layers = at.loaded.architecture.n_layers
    return range(n_layers, n_layers - min(options.blocks or n_layers, n_layers), -1)


def _about(options: RolloutOptions, values: Sequence[float], first: int) -> str:
    each = f"each block is {100 * options.residual:.3g} % of the token's own and the rest attention"
    sink = SINK if options.first == "aside" else "the first token of the text, on which attention rests, is kept"
    if options.method == "rollout":
        return (
            f"{each}; {sink}; the shares sum to 1; through many blocks they gather at the first tokens, whatever the "
            "text is: a larger residual, or fewer blocks, says more"
        )
    before = f"; to the text before these it is {values[0]:.3g}" if first else ""
    to_each = "to each token by itself, so the flows sum to more than 1"
    return f"{each}, and as much as that can flow; {sink}; {to_each}{before}"


def _largest(at: ProbeContext, values: Sequence[float], k: int) -> Table:
    ids, first = at.sequence.ids, at.position - len(values)
    order = sorted(range(len(values)), key=lambda n: -values[n])[:k]
    rows: list[tuple[Cell, ...]] = []
    for n in order:
        token = int(ids[first + n])
        rows.append((at.token(token), first + n, values[n]))
    columns = Column("token"), Column("position"), Column("of the token", "share")
    return Table("the tokens that it came from most", columns, tuple(rows))


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """The matrices of the model's own eager attention multiplied with each other."""
    _, tint, _ = answer.panels
    assert isinstance(tint, TintedText)
    n, block = len(evidence.ids), 1
    product = np.eye(n)
    while (weights := evidence.weights(block)) is not None:
        mean = (weights / weights.sum(-1, keepdims=True)).mean(0)
        mean[1:, 0] = 0
        mean /= mean.sum(-1, keepdims=True)
        product, block = (0.5 * mean + 0.5 * np.eye(n)) @ product, block + 1
    if block > 1:
        yield Difference(np.array(tint.values, dtype=np.float64), product[-1], 1.0)


def memory(card: ModelCard, position: int, options: RolloutOptions) -> int:
    """Queries and keys of all blocks, and what a pass works with."""
    return min(QUERY_BYTES, 4 * position * card.d_model * card.n_layers) + 8 * position * card.d_model * card.n_layers


PROBE = Probe(
    "attention-rollout",
    "Which tokens attention led back to from this one, through all blocks.",
    ONE_PASS,
    RolloutOptions,
    compute,
    check,
    trust="attention",
    memory=memory,
)
