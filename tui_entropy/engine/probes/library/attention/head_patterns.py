"""Head patterns: which heads look at the first token, the one before, themselves, or at what repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tui_entropy.engine.instruments.head_patterns import MIN_COPIES, head_patterns
from tui_entropy.engine.probes.probe import NOTHING, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.head_patterns import HEAD_PATTERNS, HeadPatterns, PatternOptions
from tui_entropy.records.probes.panels import Panel


def compute(at: ProbeContext, options: PatternOptions) -> Sequence[Panel]:
    """Over the rows that end with the one that chose the token."""
    with at.kept_rows(options.n_queries):
        found = head_patterns(at.instruments.attention, at.sequence.ids[: at.position], options.n_queries)
    if found is None:
        raise Unavailable("too few attention rows are kept before this token, or the model has none")
    return found.panels


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """Each block against sums over the model's own eager attention, a token at a time."""
    ids = evidence.ids
    n_queries = answer.options.get("n_queries")
    assert isinstance(n_queries, int)
    queries = list(range(2, len(ids)))[-n_queries:]
    before = {at: [key for key in range(at) if ids[key] == ids[at]] for at in queries}
    shares = np.stack([grid.numpy() for grid in HeadPatterns.of(answer).shares])
    for block in range(1, shares.shape[1] + 1):
        weights = evidence.weights(block)
        if weights is None or np.isnan(shares[0, block - 1]).all():
            continue
        sums = [[0.0] * 5 for _ in weights]
        n = np.array([len(queries)] * 3 + [0] * 2)
        for at in queries:
            seen = [key for key in before[at] if weights[:, at, key].any()]
            follow = [key + 1 for key in before[at] if weights[:, at, key + 1].any()]
            n[3:] += [bool(seen), bool(follow)]
            for head, row in enumerate(weights[:, at]):
                parts = row[0] + 1 - row.sum(), row[at - 1], row[at], row[seen].sum(), row[follow].sum()
                sums[head] = [total + part for total, part in zip(sums[head], parts, strict=True)]
        there = n >= [1, 1, 1, MIN_COPIES, MIN_COPIES]
        expected = (np.array(sums) / np.maximum(n, 1)).T[there]
        yield Difference(shares[there, block - 1, : expected.shape[1]], expected, 1.0)


PROBE = Probe(
    HEAD_PATTERNS,
    "Which heads look at the first token, at the one before, at themselves, or at what repeats.",
    NOTHING,
    PatternOptions,
    compute,
    check,
    trust="attention",
)
