"""Several short continuations of one text at once: what else might have been said from here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch

from tui_entropy.engine.cache.kv_cache import PreallocatedCache
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.instruments.tensor_metrics import log_probs
from tui_entropy.engine.measure.finite import broken, refuse
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.probe import Difference, Probe, ProbeContext, ProbeEvidence
from tui_entropy.engine.sampling.chain import apply, draw, first_mu, next_mu
from tui_entropy.engine.sampling.distribution import SamplingContext
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.session.snapshot import Snapshot
from tui_entropy.engine.tokenization.token_decoder import CONTEXT_TOKENS
from tui_entropy.engine.tokenization.tokenizer import DecodeStream, Tokenizer
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.continuations import (
    ABOUT,
    CONTINUATIONS,
    ContinuationOptions,
    Draw,
    SampledContinuations,
)
from tui_entropy.records.probes.panels import Panel

MOST_BYTES = 1 << 30
"""Of keys and values at a time; rows that do not fit beside each other come one batch after the other."""


class Row(NamedTuple):
    token_ids: list[int]
    logprob: float
    ended: bool


def compute(at: ProbeContext, options: ContinuationOptions) -> Sequence[Panel]:
    """Continuations from before the token, under the knobs and vectors of now.

    Row n has the noise of seed + n, so row 0 says what the run itself would write, up to the rounding of a batch. An
    adaptive sampler is passed over, as attention is not measured; so is what is forced.
    """
    instruments, now = at.instruments, at.controls
    with at.snapshot() as before:
        instruments.steering.set(now.offsets)
        with instruments.aside():
            instruments.attention.attention_state = AttentionState(keeps=False)
            instruments.residual.vectors = list(instruments.residual.vectors)
            rows = sample_continuations(at.loaded, before, now, options, at.progress)
    newest = torch.cat([before.prompt, before.written])[-CONTEXT_TOKENS:].tolist()
    return group_continuations(options, rows, at.loaded.tokenizer, newest).panels


def sample_continuations(
    loaded: Loaded,
    before: Snapshot,
    now: Controls,
    options: ContinuationOptions,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> list[Row]:
    """As many rows as are asked for, side by side as far as their keys and values fit into MOST_BYTES."""
    length = min(options.tokens, loaded.card.context - before.position)
    together = 1
    if isinstance(before.cache, PreallocatedCache):
        together = max(MOST_BYTES // max(before.bytes_per_token * (before.position + length), 1), 1)
    rows: list[Row] = []
    for first in range(0, options.n, together):
        seeds = range(now.knobs.seed + first, now.knobs.seed + min(first + together, options.n))
        done = partial(_beside, progress, first, len(seeds), options.n)
        rows += write_continuations(loaded, before, now, seeds, length, done)
    return rows


def _beside(progress: Callable[[float, float], None], first: int, n: int, total: int, share: float) -> None:
    """Tell of a share of n rows, after the first ones, of the total."""
    progress(first + share * n, total)


def write_continuations(
    loaded: Loaded,
    before: Snapshot,
    now: Controls,
    seeds: Sequence[int],
    length: int,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Row]:
    """The continuation that each seed writes, up to an end of text or `length` tokens, all in one batch."""
    eos_ids = loaded.tokenizer.eos_ids
    cache = before.times(len(seeds))
    rows = [Row([], 0.0, False) for _ in seeds]
    mirostat_mus = [before.mu] * len(rows)
    ids = before.written.expand(len(rows), -1)
    every = before.logits.expand(len(rows), -1)
    for at in range(length):
        progress(at / length)
        drawn, probable, finals = [], [], []
        for nth, (seed, mu) in enumerate(zip(seeds, mirostat_mus, strict=True)):
            position = before.position - before.position_offset + at
            logp = log_probs(every[nth])
            if broken(logp):
                refuse(every[nth], f"{at + 1} tokens into continuation {nth + 1}")
            past = SamplingContext(before.prompt, ids[nth], position, mu, now.breakers, frozenset(now.knobs.banned))
            chained = apply(now.knobs, every[nth], past)
            token = draw(chained.scores, seed, position)
            drawn.append(token)
            probable.append(logp[token])
            finals.append(chained.final_logp[token])
        newest = torch.stack(drawn)
        numbers = torch.stack(
            [newest.double(), *(torch.stack(part).double() for part in (probable, finals))]
        ).tolist()
        for nth, (token_id, logprob, final) in enumerate(zip(*numbers, strict=True)):
            token_ids, total, ended = rows[nth]
            if ended:
                continue
            rows[nth] = Row([*token_ids, int(token_id)], total + logprob, int(token_id) in eos_ids)
            if now.knobs.mirostat_tau:
                mirostat_mus[nth] = next_mu(first_mu(mirostat_mus[nth], now.knobs), now.knobs, math.exp(final))
        ids = torch.cat([ids, newest[:, None]], 1)
        if all(row.ended for row in rows) or at + 1 == length:
            break
        every = forward(loaded, cache, newest[:, None])
    return rows


def group_continuations(
    options: ContinuationOptions, rows: Sequence[Row], tokenizer: Tokenizer, before: Sequence[int]
) -> SampledContinuations:
    """Rows that say the same in one group, the largest group first. before: ids of what they go on from."""
    return SampledContinuations.grouped(
        options, [Draw(_text(tokenizer, before, row), tuple(row.token_ids), row.logprob, row.ended) for row in rows]
    )


def _text(tokenizer: Tokenizer, before: Sequence[int], row: Row) -> str:
    """What it adds, without an end of text."""
    ids = (i for i in row.token_ids if i not in tokenizer.eos_ids)
    return DecodeStream(tokenizer, before).decode_bytes(ids).decode("utf-8", "replace")


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """The probability of each continuation against a plain pass over it, and the entropy against the groups."""
    sampled = SampledContinuations.of(answer)
    for row in sampled.rows:
        yield Difference(row.logprob, evidence.logprob(row.token_ids), 100.0 * len(row.token_ids))
    n = len(sampled.rows)
    counts = Counter(row.group for row in sampled.rows).values()
    yield Difference(sampled.entropy, math.log(n) - sum(count * math.log(count) for count in counts) / n, 10.0)


PROBE = Probe(
    CONTINUATIONS,
    ABOUT,
    "a pass for each token of them",
    ContinuationOptions,
    compute,
    check,
    page="fan",
)
