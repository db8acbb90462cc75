"""The logit lens: what each block would have said, had the model stopped there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from tui_entropy.engine.instruments.residual import stream_of
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.records.arrays import Grid
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Axis, Cell, Column, Heatmap, Panel, Table, Tokens


class LensOptions(Struct, frozen=True, forbid_unknown_fields=True):
    k: Annotated[int, Meta(ge=1, le=20, description="How many tokens of each block are told.")] = 5


def compute(at: ProbeContext, options: LensOptions) -> Iterator[Panel]:
    """What each block would say, the last block first, and how the last block's candidates grew.

    Source: nostalgebraist 2020, 'interpreting GPT: the logit lens'. Distances are KL(last block || block).
    """
    vectors = at.pass_before().vectors
    if any(vector is None for vector in vectors):
        raise Unavailable("this model's blocks put out nothing that could be read as logits")
    loaded, tokenizer = at.loaded, at.loaded.tokenizer
    logp = unembed(loaded.model, loaded.architecture, stream_of(vectors)).log_softmax(-1)  # (n_layers, vocab)
    n_layers, k = len(logp), min(options.k, logp.shape[-1])
    p = logp.exp()
    entropy = -(p * logp.where(p > 0, 0)).sum(-1)
    kl = (p[-1] * (logp[-1] - logp).where(p[-1] > 0, 0)).sum(-1).clamp(min=0)
    top = logp.topk(k)
    token_id = at.token_id
    chosen = int(top.indices[-1, 0]) if token_id is None else token_id
    rank = (logp > logp[:, chosen : chosen + 1]).sum(-1) + 1
    blocks = range(n_layers, 0, -1)

    def row(block: int) -> tuple[Cell, ...]:
        n = block - 1
        first, *others = (Tokens((int(one),), tokenizer.token_bytes(int(one))) for one in top.indices[n])
        return str(block), first, float(entropy[n]), float(kl[n]), int(rank[n]), float(p[n, chosen]), *others

    name = tokenizer.token_bytes(chosen).decode("utf-8", "replace")
    columns = (
        Column("block"), Column("most probable"), Column("entropy", "nats"), Column("KL from last", "nats"),
        Column(f"rank of {name!r}"), Column("its p", "share"), *(Column(f"no. {nth}") for nth in range(2, k + 1)),
    )  # fmt: skip
    yield Table("what each block would have said", columns, tuple(map(row, blocks)))
    grown = p.flip(0)[:, top.indices[-1]]
    labels = tuple(tokenizer.token_bytes(int(one)).decode("utf-8", "replace") for one in top.indices[-1])
    yield Heatmap(
        "how the last block's candidates grew",
        Grid.of(grown.float().cpu().numpy()),
        Axis("block", tuple(map(str, blocks))),
        Axis("token", labels),
        "share",
    )


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """Some blocks against the model with all blocks after them left out."""
    table, grown = answer.panels
    assert isinstance(table, Table) and isinstance(grown, Heatmap)
    n_layers, chosen = len(table.rows), evidence.step.token_id
    last, best = evidence.logp(), [cell.ids[0] for cell in table.rows[0] if isinstance(cell, Tokens)]
    for block in sorted({1, (n_layers + 1) // 2, n_layers}):
        logp = evidence.logp(block)
        row = table.rows[n_layers - block]
        ids = [cell.ids[0] for cell in row if isinstance(cell, Tokens)]
        p = np.exp(logp)
        size = float(np.abs(last).max() + np.abs(logp).max())
        _, _, entropy, kl, rank, share, *_ = row
        yield Difference(entropy, float(-(p[p > 0] * logp[p > 0]).sum()), np.log(len(logp)))  # type: ignore[arg-type]
        yield Difference(logp[ids], np.sort(logp)[::-1][: len(ids)], float(np.abs(logp).max()))
        yield Difference(kl, float((np.exp(last) * (last - logp)).sum()), size)  # type: ignore[arg-type]
        yield Difference(np.sort(logp)[-int(rank)], logp[chosen], size)  # type: ignore[arg-type]
        yield Difference(share, p[chosen], size)  # type: ignore[arg-type]
        yield Difference(grown.values.numpy()[n_layers - block], p[best], size)


def memory(card: ModelCard, position: int, options: LensOptions) -> int:
    """Four arrays of (n_layers, vocab) in float32."""
    return 4 * 4 * card.n_layers * card.vocab


PROBE = Probe(
    "logit-lens",
    "What each block would have said, had the model stopped there.",
    ONE_PASS,
    LensOptions,
    compute,
    check,
    memory=memory,
)
