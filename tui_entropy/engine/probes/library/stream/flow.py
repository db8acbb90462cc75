"""Flow: a Sankey diagram of where a token came from, through attention and the residual stream, down to the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from tui_entropy.engine.attribution.embedded_text import NoGradient, embedded_text
from tui_entropy.engine.decomposition.block_parts import BlockParts, Undivided, watching_blocks
from tui_entropy.engine.decomposition.shares import shares
from tui_entropy.engine.information_flow.attention_maps import AttentionMaps, NoRows, attention_maps, first_aside
from tui_entropy.engine.information_flow.block_flow import BlockFlow, TokenFlow, flow, shown_layers
from tui_entropy.engine.information_flow.contributions import (
    HeadRecord,
    NoHeads,
    attention_routes,
    feed_forward_routes,
    heard_heads,
)
from tui_entropy.engine.information_flow.node_gradients import node_gradients
from tui_entropy.engine.kernels.threads import one_thread
from tui_entropy.engine.lenses.decoding import Decoding
from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import (
    Axis,
    Cell,
    Column,
    Flow,
    FlowEdge,
    FlowNode,
    FlowRow,
    Note,
    Panel,
    Table,
    Tokens,
)

SMALL = 64
"""Places up to which one thread is faster than waking another."""
LEAST = 1e-6
"""A share that is only rounding."""
WAYS = {
    "norm": "shares by length",
    "kl": "shares by KL over the hidden dimension",
    "routes": "shares as information flow routes have them",
}


class FlowOptions(Struct, frozen=True, forbid_unknown_fields=True):
    by: Annotated[
        Literal["norm", "kl", "routes"],
        Meta(
            description="How shares are taken: by length; by KL over the hidden dimension; routes: by how much "
            "shorter the sum is without a part, each head and token a part of its own."
        ),
    ] = "norm"
    of: Annotated[
        Literal["token", "written"],
        Meta(description="Where the flow begins: this token, or all that were written up to it, each as much."),
    ] = "token"
    feed_forward: Annotated[
        Literal["through", "ends"],
        Meta(description="What a feed-forward network added came from its own place, or the flow ends in it."),
    ] = "through"
    first: Annotated[
        Literal["aside", "kept"],
        Meta(description="The first token of the text, on which attention rests: set aside, or one as all others."),
    ] = "aside"
    before: Annotated[int, Meta(ge=0, le=255, description="How many tokens before it are told apart.")] = 63
    rows: Annotated[int, Meta(ge=1, le=256, description="How many layers are shown at most, beside the text.")] = 8
    min_share: Annotated[
        float, Meta(ge=0, le=1, description="Places and edges that carry less of the flow are not shown.")
    ] = 0.02
    top_k: Annotated[int, Meta(ge=1, le=256, description="How many edges of each place are shown at most.")] = 4
    shade: Annotated[
        Literal["share", "layer", "gradient"],
        Meta(description="What shades places: the flow through them, their layer, or the gradient of ln p there."),
    ] = "share"


class Look(NamedTuple):
    """What is looked at, and what was seen of it."""

    at: ProbeContext
    options: FlowOptions
    n: int
    """Positions that are told apart."""
    parts: Sequence[BlockParts]
    flow: TokenFlow
    logits: Tensor
    """(vocab,) that chose the token."""

    @property
    def columns(self) -> range:
        return range(self.at.position - self.n, self.at.position)


def compute(at: ProbeContext, options: FlowOptions) -> Iterator[Panel]:
    """The flow, and the tokens of the text that it comes down to."""
    if at.loaded.architecture.n_streams > 1:
        raise Unavailable("its residual stream is several side by side, and flow follows one")
    try:
        look = _look(at, options)
        levels = _levels(look)
    except (Undivided, NoRows, NoHeads, NoGradient) as reason:
        raise Unavailable(str(reason)) from None
    yield _diagram(look, levels)
    yield _largest(look)
    yield Note("how it is counted", _about(options))


def _look(at: ProbeContext, options: FlowOptions) -> Look:
    architecture, n = at.loaded.architecture, min(options.before + 1, at.position)
    blocks = range(1, architecture.n_layers + 1)
    heads: Sequence[HeadRecord] = ()
    with ExitStack() as watching:
        maps = watching.enter_context(attention_maps(at.instruments.attention, blocks, n))
        if options.by == "routes":
            heads = watching.enter_context(heard_heads(architecture, n))
        watch = watching.enter_context(watching_blocks(architecture, n))
        then = watching.enter_context(at.replay(n))
        parts = watch.parts()
        ways = _ways(at, options, maps, heads, n)
        each = []
        with one_thread if n <= SMALL else nullcontext():
            for block, one in zip(blocks, parts, strict=True):
                at.progress(block - 1, len(blocks))
                each.append(ways(block, one))
    assert then.logits is not None
    layers = shown_layers(architecture.n_layers, options.rows)
    found = flow(each, _start(at, options, n), layers, options.feed_forward == "ends")
    return Look(at, options, n, parts, found, then.logits)


def _ways(
    at: ProbeContext, options: FlowOptions, maps: AttentionMaps, heads: Sequence[HeadRecord], n: int
) -> Callable[[int, BlockParts], BlockFlow]:
    """What makes the flow of a block (1-based) from its parts."""
    first, last, queries = at.position - n, at.position, torch.arange(at.position - n, at.position)
    decoding = Decoding(at.loaded.model, at.loaded.architecture)

    def normed(part: Tensor) -> Tensor:
        return decoding.normed(part.to(at.loaded.model.dtype))

    def rows(weights: Tensor) -> Tensor:
        aside = options.first == "aside"
        kept = first_aside(weights, queries.to(weights.device)) if aside else weights
        return torch.cat([kept[:, :first].sum(-1, keepdim=True), kept[:, first:]], -1)

    def by_shares(block: int, parts: BlockParts) -> BlockFlow:
        assert options.by != "routes"
        attention, feed_forward = shares(parts, options.by, normed)
        weights = maps.weights(block, first, last)
        return BlockFlow(attention, feed_forward, rows((weights / weights.sum(-1, keepdim=True)).mean(0)))

    def by_routes(block: int, parts: BlockParts) -> BlockFlow:
        found = attention_routes(heads[block - 1], parts, maps.weights(block, first, last))
        attended = found[:, 1:].sum(-1, keepdim=True)
        return BlockFlow(attended[:, 0], feed_forward_routes(parts), rows(found[:, 1:] / attended))

    return by_routes if options.by == "routes" else by_shares


def _start(at: ProbeContext, options: FlowOptions, n: int) -> Tensor:
    """(n,) what flows through each position behind the last block: each token is chosen at the one before it."""
    start = torch.zeros(n, dtype=torch.float64)
    n_written = at.position - at.sequence.n_prompt + 1 if options.of == "written" else 1
    start[-min(max(n_written, 1), n) :] = 1.0
    return start / start.sum()


def _levels(look: Look) -> Tensor | None:
    """(n_layers + 1, n) what shades places, 0 ... 1; None for their shares."""
    at, n_layers = look.at, look.at.loaded.architecture.n_layers
    if look.options.shade == "share":
        return None
    if look.options.shade == "layer":
        return torch.linspace(0, 1, n_layers + 1)[:, None].expand(-1, look.n)
    token = at.token_id if at.token_id is not None else int(look.logits.argmax())
    sequence, n = at.sequence, at.position
    with embedded_text(at.loaded, at.instruments, sequence.ids[:n], sequence.offsets[:n], {token: 1.0}) as text:
        norms = node_gradients(text, look.n)
    return norms / float(norms.nan_to_num().max() or 1.0)


def _diagram(look: Look, levels: Tensor | None) -> Flow:
    least, found = look.options.min_share, look.flow
    places = [
        (row, int(column)) for row, share in enumerate(found.shares) for column in (share[1:] >= least).nonzero()
    ]
    index = {place: n for n, place in enumerate(places)}
    tokens = _tokens(look, places)
    nodes = []
    for (row, column), token in zip(places, tokens, strict=True):
        share = float(found.shares[row][1 + column])
        level = share if levels is None else float(levels[found.layers[row], column])
        nodes.append(FlowNode(row, column, share, level if level == level else None, token))
    edges = []
    for row, flows in enumerate(found.edges):
        top = flows[1:, 1:].topk(min(look.options.top_k, look.n), -1)
        for above, (values, below) in enumerate(zip(*map(Tensor.tolist, top), strict=True)):
            for value, under in zip(values, below, strict=True):
                if value >= least and (row, above) in index and (row + 1, under) in index:
                    edges.append(FlowEdge(index[row, above], index[row + 1, under], value))
    rows = [_row(look, row, sum(node.share for node in nodes if node.row == row)) for row in range(len(found.shares))]
    labels = tuple(str(layer) if layer else "text" for layer in found.layers)
    of = "what was written" if look.options.of == "written" else repr(_said(look))
    return Flow(
        f"where {of} came from, layer by layer",
        Axis("layer", labels),
        Axis("token", positions=tuple(look.columns)),
        tuple(nodes),
        tuple(edges),
        tuple(rows),
        "" if look.options.shade == "share" else f"shaded by {look.options.shade}",
    )


def _said(look: Look) -> str:
    token = look.at.token_id if look.at.token_id is not None else int(look.logits.argmax())
    return look.at.token(token).token_bytes.decode("utf-8", "replace")


def _row(look: Look, row: int, shown: float) -> FlowRow:
    found = look.flow
    earlier, ended = float(found.shares[row][0]), found.ended[row]
    mix = found.mix[row] if row < len(found.mix) else (None, None, None)
    return FlowRow(1.0 - shown - earlier - ended, earlier, ended, *mix)


def _tokens(look: Look, places: Sequence[tuple[int, int]]) -> list[Tokens]:
    """What the lens reads at each place; of the text its own tokens."""
    loaded, parts = look.at.loaded, look.parts
    within = [(look.flow.layers[row], column) for row, column in places if look.flow.layers[row]]
    vectors = torch.stack([parts[layer - 1].output[column] for layer, column in within])
    depth = torch.tensor([layer for layer, _ in within], device=vectors.device) / len(parts)
    decoding = Decoding(loaded.model, loaded.architecture)
    read = iter(decoding.logits(vectors.to(loaded.model.dtype), depth).argmax(-1).tolist())
    ids = look.at.sequence.ids
    told = [next(read) if look.flow.layers[row] else int(ids[look.columns[column]]) for row, column in places]
    return [look.at.token(token) for token in told]


def _largest(look: Look) -> Table:
    ids = look.at.sequence.ids
    text = look.flow.shares[-1]
    rows: list[tuple[Cell, ...]] = []
    told = 0.0
    for column in text[1:].argsort(descending=True).tolist():
        if (share := float(text[1 + column])) >= look.options.min_share:
            token = int(ids[look.columns[column]])
            rows.append((look.at.token(token), look.columns[column], share))
            told += share
    beside = {
        "tokens with less": 1 - told - float(text[0]) - look.flow.ended[-1],
        f"the text before {look.columns[0]}": float(text[0]),
        "ended in feed-forward networks": look.flow.ended[-1],
    }
    rows += [(name, "", share) for name, share in beside.items() if share > LEAST]
    columns = Column("token"), Column("position"), Column("of the flow", "share")
    return Table("what of the text it comes down to", columns, tuple(rows))


def _about(options: FlowOptions) -> str:
    first = (
        "what attention gives the first token of the text is set aside and the rest renormalised"
        if options.first == "aside"
        else "the first token of the text, on which attention rests, is kept"
    )
    fed = (
        "what feed-forward networks add comes from their own place"
        if options.feed_forward == "through"
        else "the flow ends in what feed-forward networks add"
    )
    heads = "each head and token by itself" if options.by == "routes" else "heads are averaged"
    return (
        f"{WAYS[options.by]}; {heads}; {first}; {fed}; flows over layers between two rows are added up; it tells how "
        "large parts are and not what they are for"
    )


# --- Doctor --------------------------------------------------------------------------------------------------------


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """Lengths of parts that a plain pass tells, with the model's own eager attention, multiplied down in float64."""
    diagram, *_ = answer.panels
    assert isinstance(diagram, Flow)
    parts, n = evidence.parts(), len(evidence.ids)
    if parts is None:
        return
    through = [np.eye(n)[-1:]]
    for block in range(len(parts), 0, -1):
        stream, attention, _ = np.linalg.norm(parts[block - 1], axis=-1)
        weights = evidence.weights(block)
        if weights is None:
            return
        mean = (weights / weights.sum(-1, keepdims=True)).mean(0)
        mean[1:, 0] = 0.0
        mean /= mean.sum(-1, keepdims=True)
        share = attention / (stream + attention)
        through.append(through[-1] @ (share[:, None] * mean + np.diag(1 - share)))
    layers = [0 if label == "text" else int(label) for label in diagram.rows.labels]
    told = np.zeros((len(layers), n))
    for node in diagram.nodes:
        told[node.row, diagram.columns.positions[node.column]] = node.share
    expected = np.concatenate([through[len(parts) - layer] for layer in layers])
    yield Difference(told, np.where(told > 0, expected, 0.0), 1.0)
    beside = [row.hidden + row.earlier + row.ended for row in diagram.parts]
    yield Difference(beside, np.where(told > 0, 0.0, expected).sum(-1), 1.0)


def memory(card: ModelCard, position: int, options: FlowOptions) -> int:
    """Parts of all blocks, queries and rows; of routes the vectors of a row."""
    n = min(options.before + 1, position)
    routes = 4 * 4 * position * card.d_model + 4 * card.d_model**2 if options.by == "routes" else 0
    return 4 * n * card.n_layers * (6 * card.d_model + n) + 12 * card.n_heads * n * position + routes


PROBE = Probe(
    "flow",
    "Where this token came from, as a Sankey diagram over layers and tokens down to the text.",
    ONE_PASS,
    FlowOptions,
    compute,
    check,
    memory=memory,
)
