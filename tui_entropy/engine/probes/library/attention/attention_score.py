"""Attention score: why a head looked at a token, as what earlier blocks put into its query and into the key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.engine.attribution.attention_score import (
    NoScore,
    Side,
    StreamPart,
    heard_input,
    side,
    stream_parts,
)
from tui_entropy.engine.attribution.heads import newest_weights
from tui_entropy.engine.decomposition.block_parts import Undivided, watching_blocks
from tui_entropy.engine.information_flow.whole_text import whole_text
from tui_entropy.engine.instruments.head_measures import HIDDEN
from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.records.arrays import Grid
from tui_entropy.records.bounds import Number, Position
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Axis, Bars, Cell, Column, Heatmap, Panel, Table

TOLERANCE = 0.01
"""Of all that is added and taken off: what may remain."""


class ScoreOptions(Struct, frozen=True, forbid_unknown_fields=True):
    layer: (
        Annotated[
            Number, Meta(description="The block, from 1 on; none for where a head behind the first looked most.")
        ]
        | None
    ) = None
    head: Annotated[Number, Meta(description="Its head, from 1 on; none for the one that looked most.")] | None = None
    key: (
        Annotated[Position, Meta(description="Position of the token looked at; none for the one looked at most.")]
        | None
    ) = None
    side: Annotated[
        Literal["query", "key", "both"],
        Meta(description="Of which the parts are told: of who looks, of what is looked at, or of each with each."),
    ] = "query"
    k: Annotated[int, Meta(ge=1, le=400, description="How many of the largest parts are told.")] = 12


class Pair(NamedTuple):
    block: int
    head: int
    """Both 1-based."""
    key: int
    """Position."""
    weight: float


class Heard(NamedTuple):
    """One end of a pair."""

    parts: list[StreamPart]
    side: Side


def compute(at: ProbeContext, options: ScoreOptions) -> Iterator[Panel]:
    """The score of one query and one key, which softmax makes a weight of."""
    pair = _pair(at, options)
    try:
        query, score, factor = _query(at, pair)
        key = _end(at, pair, pair.key + 1, True)
    except (NoScore, Undivided) as reason:
        raise Unavailable(str(reason)) from None
    ends = {"query": (query, key), "key": (key, query)}
    first, other = ends["key" if options.side == "key" else "query"]
    parts = first.parts
    values = factor * (first.side.parts @ other.side.vector)
    bias = factor * float(first.side.bias @ other.side.vector)
    left = score - float(values.sum()) - bias
    if not abs(left) <= TOLERANCE * max(float(values.abs().sum()) + abs(bias), 1.0):
        raise Unavailable(f"its parts do not add up to its score: {left:.3g} is left of {score:.3g}")
    what = f"block {pair.block} head {pair.head}"
    yield _about(at, pair, score)
    yield _sum(options, (parts, values.tolist(), bias, left, score))
    yield _largest(parts, values.tolist(), bias, options, what)
    if options.side == "both":
        yield _each_with_each(query, key, factor, what)
    yield from _bars(parts, values.tolist(), pair.block)


def _pair(at: ProbeContext, options: ScoreOptions) -> Pair:
    """Which is looked at. Raises UserError for a head or a token that there is not."""
    weights = newest_weights(at.instruments.attention, at.pass_before().attention_state)
    if not weights:
        raise Unavailable("this model has no attention rows")
    if options.layer is not None and options.layer not in weights:
        raise UserError(f"block {options.layer} has no attention rows: take one of {_told(list(weights))}")
    best = None
    behind = [block for block in weights if block > 1] or list(weights)  # before the first is only the embedding
    for block in behind if options.layer is None else [options.layer]:
        rows = weights[block]
        if options.head is not None and not 1 <= options.head <= len(rows):
            raise UserError(f"block {block} has {len(rows)} heads, from 1 on, and not {options.head}")
        first = at.position - rows.shape[1]
        for head in range(1, len(rows) + 1) if options.head is None else [options.head]:
            found = _looked_at(at, options, rows[head - 1], first)
            if best is None or found[1] > best.weight:
                best = Pair(block, head, *found)
    assert best is not None
    return best


def _looked_at(at: ProbeContext, options: ScoreOptions, row: Tensor, first: int) -> tuple[int, float]:
    """Position and weight of a token in a row whose first key is at `first`."""
    if options.key is not None:
        if not first <= options.key < at.position:
            raise UserError(
                f"the token at {options.key} is not seen from there: take one from {first} to {at.position - 1}"
            )
        return options.key, float(row[options.key - first])
    others = row.clone()
    if first == 0 and len(row) > 1:
        others[0] = -1.0  # attention rests there where it finds nothing
    return first + int(others.argmax()), float(others.max())


def _told(blocks: Sequence[int]) -> str:
    return ", ".join(map(str, blocks))


def _query(at: ProbeContext, pair: Pair) -> tuple[Heard, float, float]:
    """The end that looks, the score as the model has it, and what the product of query and key is multiplied with."""
    layer = next(one for one in at.instruments.attention.layers if one.index == pair.block - 1)
    scores: dict[int, Tensor] = {}
    found = _end(at, pair, at.position, False, scores)
    scores_row = scores[layer.index]
    score = float(scores_row[pair.head - 1, pair.key - (at.position - scores_row.shape[1])])
    if score <= HIDDEN:
        raise UserError(
            f"block {pair.block} does not see the token at {pair.key} from there: take a later one for key"
        )
    if layer.softcap is None:
        return found, score, layer.scaling
    plain = layer.softcap * float(np.arctanh(np.clip(score / layer.softcap, -1 + 1e-7, 1 - 1e-7)))
    return found, score, layer.scaling * (score / plain if plain else 1.0)


def _end(at: ProbeContext, pair: Pair, n: int, is_key: bool, scores: dict[int, Tensor] | None = None) -> Heard:
    """The newest query, or key, of the first n tokens."""
    architecture = at.loaded.architecture
    ids, offsets = at.sequence.ids[:n], at.sequence.offsets[:n]
    with (
        heard_input(architecture.blocks[pair.block - 1]) as heard,
        watching_blocks(architecture, 1) as watch,
        whole_text(at.loaded, at.instruments, ids, offsets, pair.block),
    ):
        if scores is not None:
            held = at.instruments.attention.attention_state.scores
            scores |= {index: rows[0].flatten(0, 1) for index, rows in held.items()}
        parts = watch.parts()
    given = (heard.args[0] if heard.args else heard.kwargs["hidden_states"])[0, -1].float()
    known = stream_parts(parts[: pair.block - 1]) if pair.block > 1 else [StreamPart("embedding", 0, given)]
    found = side(architecture, (pair.block, pair.head), heard, known, is_key)
    return Heard(known, found)


def _name(part: StreamPart) -> str:
    return part.kind if not part.block else f"block {part.block} {part.kind}"


Parts = tuple[list[StreamPart], list[float], float, float, float]


def _about(at: ProbeContext, pair: Pair, score: float) -> Table:
    """Who looked at what."""
    ids = at.sequence.ids
    looks, seen = (at.token(int(ids[n])) for n in (at.position - 1, pair.key))
    columns = ("block", "head", "looked from", "at position", "at the token", "of position", "weight", "score")
    row: tuple[Cell, ...] = (pair.block, pair.head, looks, at.position - 1, seen, pair.key, pair.weight, score)
    named = tuple(Column(name, "share" if name == "weight" else "") for name in columns)
    return Table("who looked at what", named, (row,))


def _sum(options: ScoreOptions, told: Parts) -> Table:
    """Everything, so that it can be added up."""
    parts, values, bias, left, score = told

    def of(kind: str) -> float:
        return sum(value for part, value in zip(parts, values, strict=True) if part.kind == kind)

    rows: list[tuple[Cell, ...]] = [
        ("embedding", of("embedding")),
        ("attention of earlier blocks", of("attention")),
        ("feed-forward of earlier blocks", of("feed-forward")),
        ("vectors that steer", of("vectors")),
        ("biases", bias),
        ("remainder", left),
        ("score", score),
    ]
    of_side = "key" if options.side == "key" else "query"
    title = f"what the score is the sum of, by what is in the {of_side}, with norms frozen at their scales"
    return Table(title, (Column(f"part of the {of_side}"), Column("adds")), tuple(rows))


def _largest(parts: list[StreamPart], values: list[float], bias: float, options: ScoreOptions, what: str) -> Table:
    each: list[tuple[str, float, float | None]] = [
        (_name(part), value, float(torch.linalg.vector_norm(part.vector)))
        for part, value in zip(parts, values, strict=True)
    ]
    each = sorted([*each, ("biases", bias, None)], key=lambda one: -abs(one[1]))
    whole = sum(abs(value) for _, value, _ in each) or 1.0
    rows: list[tuple[Cell, ...]] = [
        (name, value, abs(value) / whole, size) for name, value, size in each[: options.k]
    ]
    if rest := [value for _, value, _ in each[options.k :]]:
        rows.append((f"{len(rest)} others", sum(rest), sum(map(abs, rest)) / whole, None))
    columns = Column("part"), Column("adds"), Column("of all that is moved", "share"), Column("length of the part")
    return Table(f"what made {what} look, or kept it from it", columns, tuple(rows))


def _each_with_each(query: Heard, key: Heard, factor: float, what: str) -> Heatmap:
    """Parts of the query by parts of the key, biases last."""
    ends = [torch.cat([one.side.parts, one.side.bias[None]]) for one in (query, key)]
    values = factor * (ends[0] @ ends[1].mT)
    names = [tuple([*map(_name, one.parts), "biases"]) for one in (query, key)]
    top = float(values.abs().max()) or 1.0
    grid = Grid.of(values.cpu().numpy())
    title = f"score of {what}: parts of the query by parts of the key"
    return Heatmap(title, grid, Axis("of the query", names[0]), Axis("of the key", names[1]), "", top)


def _bars(parts: list[StreamPart], values: list[float], block: int) -> Iterator[Bars]:
    top = max(map(abs, values), default=0.0) or 1.0
    for kind in ("attention", "feed-forward"):
        known = {part.block: value for part, value in zip(parts, values, strict=True) if part.kind == kind}
        if known:
            each = tuple(known.get(number) for number in range(1, block))
            yield Bars(f"{kind} of each earlier block", each, Axis.numbered("block", 1, block - 1), "", top)


# --- Doctor --------------------------------------------------------------------------------------------------------


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """The weight of the pair, and the lengths of parts, against plain passes."""
    about, total, largest, *_ = answer.panels
    assert isinstance(about, Table) and isinstance(total, Table) and isinstance(largest, Table)
    block, head, query, key = (int(about.rows[0][n]) for n in (0, 1, 3, 5))  # type: ignore[arg-type]
    weight = about.rows[0][6]
    told = {str(row[0]): row[1] for row in total.rows}
    *each, score = map(float, told.values())  # type: ignore[arg-type]
    yield Difference(sum(each), score, sum(map(abs, each)))
    if (weights := evidence.weights(block)) is not None:
        yield Difference(weight, weights[head - 1, query, key], 1.0)  # type: ignore[arg-type]
    if (parts := evidence.parts()) is None:
        return
    lengths = np.linalg.norm(parts[:, :, -1], axis=-1)
    for name, _, _, length in largest.rows:
        number, kind = str(name).split()[1:2], str(name).split()[-1]
        if number and kind in ("attention", "feed-forward") and str(name).startswith("block"):
            expected = lengths[int(number[0]) - 1, 1 if kind == "attention" else 2]
            if np.isfinite(expected):
                yield Difference(length, expected, float(np.nanmax(lengths)))  # type: ignore[arg-type]


def memory(card: ModelCard, position: int, options: ScoreOptions) -> int:
    """Keys of a pass, and what it works with."""
    return 4 * position * card.d_model * (card.n_layers + 16)


PROBE = Probe(
    "attention-score",
    "Why a head looked at a token: its score, by what earlier blocks put into its query or the key.",
    ONE_PASS,
    ScoreOptions,
    compute,
    check,
    trust="attention",
    memory=memory,
)
