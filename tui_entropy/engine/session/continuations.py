"""Several short continuations of one text at once: what else might have been said from here."""

from __future__ import annotations

import copy
import math
import string
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor
from transformers import Cache

from tui_entropy.engine.cache.kv_cache import PreallocatedCache, kv_slices
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.instruments.tensor_metrics import log_probs
from tui_entropy.engine.measure.finite import broken, refuse
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.chain import apply, draw, first_mu, next_mu
from tui_entropy.engine.sampling.distribution import SamplingContext
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.tokenization.token_decoder import CONTEXT_TOKENS
from tui_entropy.engine.tokenization.tokenizer import DecodeStream, Tokenizer
from tui_entropy.records.commands import SampleContinuations
from tui_entropy.records.events import Continuation, SampledContinuations

MOST_BYTES = 1 << 30
"""Of keys and values at a time; rows that do not fit beside each other come one batch after the other."""
ARTICLES = {"a", "an", "the"}
TO_SPACE = str.maketrans(dict.fromkeys(string.punctuation, " "))


class Row(NamedTuple):
    token_ids: list[int]
    logprob: float
    ended: bool


@dataclass(frozen=True)
class Snapshot:
    """A text as it was before one of its steps."""

    prompt: Tensor
    """(n,) ids."""
    written: Tensor
    """(m,) ids."""
    position_offset: int
    mu: float | None
    """See TokenSequence for both."""
    cache: Cache
    """Which holds all of it; copied, and not written to."""
    logits: Tensor
    """(vocab,) float32 after the last of it."""

    @classmethod
    def of(cls, sequence: TokenSequence, step: int, cache: Cache, logits: Tensor) -> Self:
        return cls(
            sequence.prompt,
            sequence.written[:step],
            sequence.position_offset,
            sequence.mirostat_mus[step],
            cache,
            logits,
        )

    @property
    def position(self) -> int:
        """The number of its tokens."""
        return len(self.prompt) + len(self.written)

    @property
    def bytes_per_token(self) -> int:
        """The bytes that the keys and values of a token take in one row."""
        held = kv_slices(self.cache, 0, 1).values()
        return sum(keys[:1].nbytes + values[:1].nbytes for keys, values in held)

    def times(self, n: int) -> Cache:
        """Its cache in n rows, to be written on."""
        if isinstance(self.cache, PreallocatedCache):
            return self.cache.repeat_prefix(self.position, n)
        return copy.deepcopy(self.cache)


@torch.inference_mode()
def sample_continuations(
    loaded: Loaded, probes: Instruments, before: Snapshot, now: Controls, ask: SampleContinuations
) -> SampledContinuations:
    """Continuations from there, under the knobs and vectors of now. What the probes know stays as it is.

    Row n has the noise of seed + n, so row 0 says what the run itself would write, up to the rounding of a batch. An
    adaptive sampler is passed over, as attention is not measured; so is what is forced.
    """
    began = time.perf_counter()
    length = min(ask.tokens, loaded.card.context - before.position)
    together = 1
    if isinstance(before.cache, PreallocatedCache):
        together = max(MOST_BYTES // max(before.bytes_per_token * (before.position + length), 1), 1)
    rows: list[Row] = []
    probes.steering.set(now.offsets)
    with probes.aside():
        probes.attention.attention_state, probes.residual.vectors = (
            AttentionState(keeps=False),
            list(probes.residual.vectors),
        )
        for first in range(0, ask.n, together):
            last = min(first + together, ask.n)
            rows += write_continuations(
                loaded, before, now, range(now.knobs.seed + first, now.knobs.seed + last), length
            )
    newest = torch.cat([before.prompt, before.written])[-CONTEXT_TOKENS:].tolist()
    return group_continuations(ask, rows, loaded.tokenizer, time.perf_counter() - began, newest)


def write_continuations(
    loaded: Loaded, before: Snapshot, now: Controls, seeds: Sequence[int], length: int
) -> list[Row]:
    """The continuation that each seed writes, up to an end of text or `length` tokens, all in one batch."""
    eos_ids = loaded.tokenizer.eos_ids
    cache = before.times(len(seeds))
    rows = [Row([], 0.0, False) for _ in seeds]
    mirostat_mus = [before.mu] * len(rows)
    ids = before.written.expand(len(rows), -1)
    every = before.logits.expand(len(rows), -1)
    for at in range(length):
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
    ask: SampleContinuations, rows: Sequence[Row], tokenizer: Tokenizer, seconds: float, before: Sequence[int]
) -> SampledContinuations:
    """Rows that say the same in one group, the largest group first. before: ids of what they go on from."""
    texts = [
        DecodeStream(tokenizer, before)
        .decode_bytes(i for i in row.token_ids if i not in tokenizer.eos_ids)
        .decode("utf-8", "replace")
        for row in rows
    ]
    keys = texts if ask.same == "exact" else [normalize_answer(text) for text in texts]
    groups = Counter(keys).most_common()
    place = {key: nth for nth, (key, _) in enumerate(groups)}
    shares = [count / len(rows) for _, count in groups]
    continuations = tuple(
        Continuation(text, tuple(row.token_ids), row.logprob, row.ended, place[key])
        for text, row, key in zip(texts, rows, keys, strict=True)
    )
    entropy = max(-sum(share * math.log(share) for share in shares), 0.0)
    return SampledContinuations(ask.run, ask.step, continuations, ask.tokens, ask.same, entropy, seconds)


def normalize_answer(text: str) -> str:
    """Without case, punctuation, articles and runs of space, as answers are compared (Rajpurkar et al. 2016)."""
    return " ".join(word for word in text.lower().translate(TO_SPACE).split() if word not in ARTICLES)
