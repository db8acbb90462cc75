"""Several short continuations of one text at once: what else might have been said from here."""

from __future__ import annotations

import copy
import math
import string
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Cache

from tui_entropy.engine.attention import Held
from tui_entropy.engine.cache import RoomyCache
from tui_entropy.engine.decode import Context, Controls, Instruments, forward
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.metrics import log_probs
from tui_entropy.engine.sampling import Past, apply, draw, first_mu, next_mu
from tui_entropy.engine.shadow import read_up_to
from tui_entropy.engine.text import Codec
from tui_entropy.records import AskFan, Fanned, FanRow

MOST_BYTES = 1 << 30
"""Of keys and values at a time; rows that do not fit beside each other come one batch after the other."""
ARTICLES = {"a", "an", "the"}
TO_SPACE = str.maketrans(dict.fromkeys(string.punctuation, " "))


@torch.inference_mode()
def fan(loaded: Loaded, probes: Instruments, context: Context, now: Controls, ask: AskFan) -> Fanned:
    """Continuations from before a step of a context, under the knobs and vectors of now. It is left as it is.

    Row n has the luck of seed + n, so row 0 says what the run itself would write, up to the rounding of a batch. An
    adaptive sampler is passed over, as attention is not measured; so is what is forced.
    """
    began = time.perf_counter()
    before = Before(context, ask.step, now)
    length = min(ask.tokens, loaded.card.context - before.position)
    held, vectors = probes.attention.held, probes.residual.vectors
    try:
        cache, logits, n_bytes = whole(loaded, probes, before)
        per_row = max(n_bytes // before.position * (before.position + length), 1)
        together = max(MOST_BYTES // per_row, 1) if isinstance(cache, RoomyCache) else 1
        probes.attention.held, probes.residual.vectors = Held(keeps=False), list(vectors)
        probes.steering.set(now.pushes)
        rows: list[Row] = []
        for first in range(0, ask.n, together):
            seeds = range(now.knobs.seed + first, now.knobs.seed + min(first + together, ask.n))
            rows += written(loaded, before, _times(cache, before.position, len(seeds)), logits, seeds, length)
    finally:
        probes.attention.held, probes.residual.vectors = held, vectors
    return fanned(ask, rows, loaded.codec, time.perf_counter() - began)


class Before:
    """A context as it was before one of its steps."""

    def __init__(self, context: Context, step: int, now: Controls) -> None:
        self.context, self.now = context, now
        self.position = context.n_prompt + step
        """How many tokens there were."""
        self.written = context.written[:step]
        self.mu = context.mus[step]
        self.lag = context.lag


class Row(NamedTuple):
    token_ids: list[int]
    logprob: float
    ended: bool


def whole(loaded: Loaded, probes: Instruments, before: Before) -> tuple[Cache, Tensor, int]:
    """A cache with the tokens before the step in its first row, (vocab,) logits after the last, and bytes of a row.

    What the live cache holds is not read again but for the last of them, and that neither where it is the newest.
    """
    context, n = before.context, before.position
    logits, rows = context.logits, len(context.rows)
    if logits is not None and context.n_read == context.n_tokens == n:
        live = context.cache.row(context.row) if isinstance(context.cache, RoomyCache) else context.cache
        return live, logits, context.bytes // rows
    aside = Context(loaded, context.ids[:n].tolist(), 0)
    aside.pushes = context.pushes[:n]
    if isinstance(context.cache, RoomyCache) and context.n_read >= n:
        aside.cache = context.cache.row(context.row).beginning(n - 1)
        aside.n_read = n - 1
    read_up_to(loaded, probes, aside, n, before.now.pushes)
    assert aside.logits is not None
    return aside.cache, aside.logits, aside.bytes


def _times(cache: Cache, n_tokens: int, n: int) -> Cache:
    """The same tokens in n rows, to be written on; the cache is left as it is."""
    return cache.beginning(n_tokens, n) if isinstance(cache, RoomyCache) else copy.deepcopy(cache)


def written(
    loaded: Loaded, before: Before, cache: Cache, logits: Tensor, seeds: Sequence[int], length: int
) -> list[Row]:
    """What each seed writes in one row of the cache, until an end of text or that many tokens.

    logits: (vocab,) before the first of them.
    """
    now, eos_ids = before.now, loaded.codec.eos_ids
    rows = [Row([], 0.0, False) for _ in seeds]
    mus = [before.mu] * len(rows)
    ids = torch.empty(len(rows), 0, dtype=torch.long, device=logits.device)
    every = logits.expand(len(rows), -1)
    for at in range(length):
        drawn, probable, finals = [], [], []
        for nth, (seed, mu) in enumerate(zip(seeds, mus, strict=True)):
            position = before.position - before.lag + at
            text = torch.cat([before.written, ids[nth]])
            past = Past(before.context.prompt, text, position, mu, now.breakers, frozenset(now.knobs.banned))
            chained = apply(now.knobs, every[nth], past)
            token = draw(chained.scores, seed, position)
            drawn.append(token)
            probable.append(log_probs(every[nth])[token])
            finals.append(chained.final_logp[token])
        newest = torch.stack(drawn)
        told = torch.stack([newest.double(), *(torch.stack(part).double() for part in (probable, finals))]).tolist()
        for nth, (token_id, logprob, final) in enumerate(zip(*told, strict=True)):
            token_ids, total, ended = rows[nth]
            if ended:
                continue
            rows[nth] = Row([*token_ids, int(token_id)], total + logprob, int(token_id) in eos_ids)
            if now.knobs.mirostat_tau:
                mus[nth] = next_mu(first_mu(mus[nth], now.knobs), now.knobs, math.exp(final))
        ids = torch.cat([ids, newest[:, None]], 1)
        if all(row.ended for row in rows) or at + 1 == length:
            break
        every = forward(loaded, cache, newest[:, None])
    return rows


def fanned(ask: AskFan, rows: Sequence[Row], codec: Codec, seconds: float) -> Fanned:
    """Rows that say the same in one group, the largest group first."""
    texts = [
        b"".join(codec.token_bytes(i) for i in row.token_ids if i not in codec.eos_ids).decode("utf-8", "replace")
        for row in rows
    ]
    keys = texts if ask.same == "exact" else [normalised(text) for text in texts]
    groups = Counter(keys).most_common()
    place = {key: nth for nth, (key, _) in enumerate(groups)}
    shares = [count / len(rows) for _, count in groups]
    told = tuple(
        FanRow(text, tuple(row.token_ids), row.logprob, row.ended, place[key])
        for text, row, key in zip(texts, rows, keys, strict=True)
    )
    entropy = max(-sum(share * math.log(share) for share in shares), 0.0)
    return Fanned(ask.run, ask.step, told, ask.tokens, ask.same, entropy, seconds)


def normalised(text: str) -> str:
    """Without case, punctuation, articles and runs of space, as answers are compared (Rajpurkar et al. 2016)."""
    return " ".join(word for word in text.lower().translate(TO_SPACE).split() if word not in ARTICLES)
