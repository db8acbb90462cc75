"""The lens: what each layer would have said, had the model stopped there, at a token and at those before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta, Struct
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decomposition.block_parts import BlockParts, Undivided, watching_blocks
from tui_entropy.engine.decomposition.residual_stream import watching_stream
from tui_entropy.engine.decomposition.shares import ShareName, shares
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.lenses.decoding import DecoderName, Decoding, NormName, Undecodable
from tui_entropy.engine.lenses.files import load
from tui_entropy.engine.lenses.lens import LOGIT_LENS, Lens
from tui_entropy.engine.lenses.readout import (
    SLICE_BYTES,
    Final,
    Readout,
    commitment_layers,
    measured,
    read_out,
)
from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.engine.probes.target import token_named
from tui_entropy.records.arrays import Grid
from tui_entropy.records.lens_rows import layers_read
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Axis, Cell, Column, Heatmap, Note, Panel, Table, Tokens

Floats = npt.NDArray[Any]
MAX_CANDIDATES = 24
"""Tokens that are followed through the layers."""
Place = Literal["block", "intermediate", "attention", "feed-forward"]
Tint = Literal["p", "entropy", "kl", "rank", "attention", "feed-forward"]
PLACES: dict[str, str] = {
    "intermediate": "the stream after attention",
    "attention": "what attention adds",
    "feed-forward": "what the feed-forward network adds",
}
TINTS: dict[str, str] = {
    "p": "probability of the token shown",
    "entropy": "entropy",
    "kl": "KL from the last",
    "rank": "1 / rank of the written token",
    "attention": "attention's share",
    "feed-forward": "the feed-forward network's share",
}


class LensOptions(Struct, frozen=True, forbid_unknown_fields=True):
    k: Annotated[int, Meta(ge=1, le=20, description="How many tokens of each layer are told.")] = 5
    before: Annotated[int, Meta(ge=0, le=63, description="How many tokens before it stand in the grid.")] = 7
    at: Annotated[Place, Meta(description="What is read: what a block puts out, or a part of it.")] = "block"
    tint: Annotated[Tint, Meta(description="What colours the grid.")] = "p"
    shares: Annotated[
        ShareName, Meta(description="How shares of attention and feed-forward are taken: by length, or by KL.")
    ] = "norm"
    decoder: Annotated[
        DecoderName, Meta(description="The embedding that vectors are read by; linear, quadratic: both, by depth.")
    ] = "output"
    norm: Annotated[NormName, Meta(description="What of the final norm stands before it.")] = "norm-and-scale"
    secondary: Annotated[
        Literal["top-k", "iterative"],
        Meta(description="The other tokens of a layer; iterative: of what is left when those before are taken off."),
    ] = "top-k"
    token: Annotated[
        str, Meta(max_length=200, description="Whose rank is told: a token's text, or #id. Empty: the written one.")
    ] = ""
    lens: Annotated[
        str,
        Meta(
            max_length=4096, description="A tuned lens (a folder) or Jacobian lens (a file). Empty: the logit lens."
        ),
    ] = ""
    every: Annotated[int, Meta(ge=1, le=64, description="Every so many layers, from the last one back.")] = 1


@dataclass(frozen=True)
class Look:
    """What is looked at, and what was seen of it."""

    at: ProbeContext
    options: LensOptions
    lens: Lens
    layers: tuple[int, ...]
    """The rows, the first layer first."""
    vectors: Tensor
    """(layers, n, d_model), read through the lens."""
    parts: Sequence[BlockParts]
    """Of each block; empty where nobody asks for them."""
    final: Tensor
    """(n, vocab) ln p of the model."""
    wanted: Tensor
    """(n,) the tokens whose rank is told."""

    @property
    def columns(self) -> tuple[int, ...]:
        """Positions of the tokens that the columns are about."""
        last = self.at.position
        return tuple(range(last + 1 - len(self.final), last + 1))

    @property
    def depth(self) -> Tensor:
        """(layers,) of 0, the embedding, to 1, the last block."""
        n_layers = self.at.loaded.architecture.n_layers
        return torch.tensor(self.layers, device=self.vectors.device, dtype=torch.float32) / n_layers

    def name(self, token_id: int) -> str:
        return self.at.token(token_id).token_bytes.decode("utf-8", "replace")


def compute(at: ProbeContext, options: LensOptions) -> Iterator[Panel]:
    """The grid, the layers at the token asked about, candidates through them, and where the answer comes to stay.

    Sources: nostalgebraist 2020, 'interpreting GPT: the logit lens'; Belardinelli et al. 2025 for decoders and parts.
    """
    loaded, head = at.loaded, at.instruments.lens.head
    try:
        decoding = Decoding(loaded.model, loaded.architecture, options.decoder, options.norm)
        look = _look(at, options, decoding)
        with head.taking(lay_out=False):
            asked = decoding.logits(look.vectors[:, -1], look.depth)
        if options.at == "block" and decoding == Decoding(loaded.model, loaded.architecture):
            look.final[-1] = asked[-1].log_softmax(
                -1
            )  # of the same product, so that it differs from itself by nothing
        final = Final.of(look.final[-1])
        own = measured((row, final, look.wanted[-1]) for row in asked)
        with head.taking(lay_out=False):
            others = read_out(
                decoding.logits, look.vectors[:, :-1], look.depth, look.final[:-1], look.wanted[:-1], at.progress
            )
        found = others.before(Readout(own[:, None]))
        if options.secondary == "iterative":
            several = decoding.iterative(look.vectors[:, -1], look.depth, options.k)
        else:
            several = asked.topk(min(options.k, asked.shape[-1])).indices.tolist()
        values, unit, top = _tint(look, found, decoding)
    except (Undecodable, Undivided) as reason:
        raise Unavailable(str(reason)) from None
    yield _grid(look, found, values, unit, top)
    yield _table(look, found, several)
    yield _candidates(look, asked, found.top[:, -1].tolist(), several[-1])
    yield _commitment(look, found)
    if look.lens.note:
        yield Note(look.lens.name, look.lens.note)


def _look(at: ProbeContext, options: LensOptions, decoding: Decoding) -> Look:
    loaded, architecture = at.loaded, at.loaded.architecture
    if options.lens and options.at != "block":
        raise UserError(f"at is {options.at} and a lens from a file is one of what blocks put out: leave at=block")
    wanted = token_named(at, options.token, "token") if options.token else None
    lens = load(Path(options.lens).expanduser(), loaded) if options.lens else LOGIT_LENS
    n = min(options.before + 1, at.position)
    divided = options.at != "block" or options.tint in ("attention", "feed-forward")
    if architecture.n_streams > 1:
        raise Unavailable(
            "its residual stream is several side by side, and its head reads a mixture made of the last"
        )
    with (
        watching_stream(architecture, n) as watch,
        watching_blocks(architecture, n) if divided else nullcontext() as blocks,
        at.replay(n),
    ):
        stream, parts = watch.stream(), blocks.parts() if blocks is not None else []
    final = unembed(loaded.model, architecture, stream[-1]).log_softmax(-1)
    n_layers = architecture.n_layers
    layers = layers_read(n_layers, options.every, first=1 if parts and options.at != "block" else 0)
    vectors = torch.stack([lens(layer, _read_at(stream, parts, layer, options.at)) for layer in layers])
    position = torch.arange(at.position + 1 - n, at.position + 1)
    known = [int(at.sequence.ids[q]) if q < at.sequence.n_tokens else int(final[-1].argmax()) for q in position]
    ids = torch.tensor(known if wanted is None else [wanted] * n, device=final.device)
    return Look(at, options, lens, layers, vectors, parts, final, ids)


def _read_at(stream: Tensor, parts: Sequence[BlockParts], layer: int, place: Place) -> Tensor:
    """(n, d_model) of a layer, in the dtype of the stream; zeros of what a block has none of."""
    if place == "block":
        return stream[layer]
    part = parts[layer - 1]
    found = {"intermediate": part.intermediate, "attention": part.attention, "feed-forward": part.feed_forward}[place]
    return (torch.zeros_like(part.output) if found is None else found).to(stream)


def _tint(look: Look, found: Readout, decoding: Decoding) -> tuple[Tensor, str, float]:
    """(layers, positions) numbers that colour the grid, their unit, and where the colour is full."""
    vocab = float(np.log(look.final.shape[-1]))
    match look.options.tint:
        case "p":
            return found.p, "share", 1.0
        case "entropy":
            return found.entropy, "nats", vocab
        case "kl":
            return found.kl, "nats", vocab
        case "rank":
            return 1 / found.rank, "", 1.0
    which = 0 if look.options.tint == "attention" else 1
    rows = torch.full_like(found.p, torch.nan)

    def normed(part: Tensor) -> Tensor:
        return decoding.normed(part.to(look.vectors))

    for row, layer in enumerate(look.layers):
        if layer:
            rows[row] = shares(look.parts[layer - 1], look.options.shares, normed)[which]
    return rows, "share", 1.0


def _labels(look: Look) -> tuple[str, ...]:
    """The last layer first."""
    return tuple(map(str, reversed(look.layers)))


def _grid(look: Look, found: Readout, values: Tensor, unit: str, top: float) -> Heatmap:
    words = {one: look.at.token(one) for one in set(found.top.flatten().tolist())}
    options = look.options
    of = "" if options.at == "block" else f" of {PLACES[options.at]}"
    return Heatmap(
        f"{look.lens.name}{of}: {TINTS[options.tint]}",
        Grid.of(values.flip(0).float().cpu().numpy()),
        Axis("layer", _labels(look)),
        Axis("token", positions=look.columns),
        unit,
        top,
        tuple(words[one] for one in found.top.flip(0).flatten().tolist()),
    )


def _table(look: Look, found: Readout, several: list[list[int]]) -> Table:
    """The token that is asked about, a row for each layer."""
    top, entropy, kl, rank, p = (
        column[:, -1].tolist() for column in (found.top, found.entropy, found.kl, found.rank, found.wanted_p)
    )
    k = max(map(len, several))

    def row(at: int) -> tuple[Cell, ...]:
        others = [one for one in several[at] if one != top[at]][: k - 1]
        told: list[Cell] = [*map(look.at.token, others), *[""] * (k - 1 - len(others))]
        return (str(look.layers[at]), look.at.token(top[at]), entropy[at], kl[at], rank[at], p[at], *told)

    columns = (
        Column("layer"), Column("most probable"), Column("entropy", "nats"), Column("KL from last", "nats"),
        Column(f"rank of {look.name(int(look.wanted[-1]))!r}"), Column("its p", "share"),
        *(Column(f"no. {nth}") for nth in range(2, k + 1)),
    )  # fmt: skip
    return Table("what each layer would have said", columns, tuple(map(row, reversed(range(len(top))))))


def _candidates(look: Look, asked: Tensor, top: list[int], last: list[int]) -> Heatmap:
    """The tokens that were on top in any layer, and the other candidates of the last one."""
    candidates = list(dict.fromkeys([*reversed(top), *last]))[:MAX_CANDIDATES]
    p = asked.softmax(-1)[:, candidates].flip(0)
    return Heatmap(
        "how tokens grew that were on top in any layer, or candidates of the last",
        Grid.of(p.float().cpu().numpy()),
        Axis("layer", _labels(look)),
        Axis("token", tuple(map(look.name, candidates))),
        "share",
    )


def _commitment(look: Look, found: Readout) -> Table:
    """A row for each position, the newest last."""
    said = look.final.argmax(-1)
    index = commitment_layers(found.top, said)
    p = look.final.exp().gather(1, said[:, None])[:, 0].tolist()
    rows = tuple(
        (position, look.at.token(int(token)), share, None if at is None else look.layers[at])
        for position, token, share, at in zip(look.columns, said, p, index, strict=True)
    )
    columns = Column("position"), Column("the model said"), Column("its p", "share"), Column("commitment layer")
    return Table("from which layer on the answer stays", columns, rows)


# --- Doctor ---------------------------------------------------------------------------------------------------------


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """Some layers against the model with all blocks after them left out, at the token and the first of the grid."""
    grid, table, grown, commitment = answer.panels
    assert isinstance(grid, Heatmap) and isinstance(table, Table) and isinstance(grown, Heatmap)
    assert isinstance(commitment, Table)
    last, n_layers, n = evidence.logp(), len(table.rows) - 1, grid.columns.n
    followed = list(dict.fromkeys(row[1].ids[0] for row in table.rows if isinstance(row[1], Tokens)))
    for layer in sorted({0, 1, (n_layers + 1) // 2, n_layers}):
        logp, at = evidence.logp(layer), n_layers - layer
        yield from _row_check(table.rows[at], logp, last, evidence.step.token_id)
        p = np.exp(logp)[followed[:MAX_CANDIDATES]]
        yield Difference(grown.values.numpy()[at, : len(p)], p, _size(logp))
        for back in {0, n - 1}:
            logp, column = evidence.logp(layer, back), n - 1 - back
            (shown,) = grid.tokens[at * n + column].ids
            yield Difference(logp[shown], logp.max(), _size(logp))
            yield Difference(grid.values.numpy()[at, column], np.exp(logp[shown]), _size(logp))
    if isinstance(stays := commitment.rows[-1][-1], int):
        logp = evidence.logp(stays)
        yield Difference(logp[last.argmax()], logp.max(), _size(logp))


def _row_check(row: tuple[Cell, ...], logp: Floats, last: Floats, chosen: int) -> Iterator[Difference]:
    """A row of the table against its ln p, and that of the last block."""
    ids = [cell.ids[0] for cell in row if isinstance(cell, Tokens)]
    p, size = np.exp(logp), _size(last) + _size(logp)
    _, _, entropy, kl, rank, share, *_ = row
    yield Difference(entropy, float(-(p[p > 0] * logp[p > 0]).sum()), np.log(len(logp)))  # type: ignore[arg-type]
    yield Difference(logp[ids], np.sort(logp)[::-1][: len(ids)], _size(logp))
    yield Difference(kl, float((np.exp(last) * (last - logp)).sum()), size)  # type: ignore[arg-type]
    yield Difference(np.sort(logp)[-int(rank)], logp[chosen], size)  # type: ignore[arg-type]
    yield Difference(share, p[chosen], size)  # type: ignore[arg-type]


def _size(logp: Floats) -> float:
    """How large the numbers are that rounding acts on."""
    return float(np.abs(logp).max())


def memory(card: ModelCard, position: int, options: LensOptions) -> int:
    """Logits of the token's layers, a slice of those of the others, what the model said, and the maps of a lens."""
    n, layers = min(options.before + 1, position), card.n_layers + 1
    maps = 3 * 4 * card.n_layers * card.d_model * (card.d_model + 1) if options.lens else 0
    return 4 * card.vocab * (3 * layers + 2 * n) + 2 * SLICE_BYTES + 4 * 6 * n * layers * card.d_model + maps


PROBE = Probe(
    "lens",
    "What each layer would have said, had the model stopped there, at this token and those before.",
    ONE_PASS,
    LensOptions,
    compute,
    check,
    memory=memory,
    aliases=("logit-lens",),
)
