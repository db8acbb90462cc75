"""Made-up answers to the probes that a scripted engine has."""

from __future__ import annotations

import array
import math

import msgspec

from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo, ProbeOption
from tui_entropy.records.probes.attention_rows import AttentionRows, RowOptions
from tui_entropy.records.probes.panels import Axis, Column, Heatmap, Table, Tokens


def rows(asked: AskProbe) -> ProbeAnswer:
    """Each query looks at the first key and at its neighbours."""
    ask, last = msgspec.convert(asked.options, RowOptions), asked.position - 1
    queries = tuple(range(last - ask.n_queries + 1, last + 1))
    weights = array.array("f")
    elsewhere = []
    for query in queries:
        row = [
            0.5 * (key == 0) + math.exp(-abs(query - key) / 2) if key <= query else 0.0 for key in range(query + 1)
        ]
        total = sum(row)
        window = range(ask.first_key, ask.first_key + ask.n_keys)
        seen = [row[key] / total if key <= query else math.nan for key in window]
        weights.extend(seen)
        elsewhere.append(1 - sum(w for w in seen if not math.isnan(w)))
    grid = Grid((len(queries), ask.n_keys), weights.tobytes())
    found = AttentionRows(ask.layer, ask.head, queries, ask.first_key, grid, tuple(elsewhere))
    return ProbeAnswer(asked.name, asked.run, asked.position, asked.options, found.panels, record=asked.record)


def lens(asked: AskProbe) -> ProbeAnswer:
    """A table and a heat map of made-up blocks."""
    blocks = range(4, 0, -1)
    table = Table(
        "what each block would have said",
        (Column("block"), Column("entropy", "nats"), Column("its p", "share"), Column("most probable")),
        tuple((str(n), 5.0 - n, n / 4, Tokens((n,), f" word{n}".encode())) for n in blocks),
    )
    grown = Grid((4, 3), array.array("f", [n / 12 for n in range(12)]).tobytes())
    map_ = Heatmap(
        "how they grew", grown, Axis("block", tuple(map(str, blocks))), Axis("token", ("a", "b", "c")), "share"
    )
    return ProbeAnswer(
        asked.name, asked.run, asked.position, asked.options, (table, map_), seconds=0.25, record=asked.record
    )


PROBES = (
    ProbeInfo("attention", "Which earlier tokens a layer looked at.", "what is kept", trust="attention"),
    ProbeInfo(
        "continuations",
        "Several short continuations from there.",
        "passes",
        (ProbeOption("n", "How many.", 8, 1, 64),),
        "logits",
        "fan",
    ),
    ProbeInfo(
        "lens",
        "What each block would have said.",
        "a pass",
        (ProbeOption("k", "How many.", 5, 1, 20),),
        "logits",
    ),
    ProbeInfo("step", "The step with other knobs.", "a pass", (ProbeOption("temperature", "", 0.7),), "logits"),
)
