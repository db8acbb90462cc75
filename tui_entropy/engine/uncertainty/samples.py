"""Continuations that are drawn behind a text, each up to the end of its line, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.library.text.continuations import sample_continuations
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.scoring.passage import left_to_right
from tui_entropy.engine.scoring.scorer import Wanted, score
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.engine.session.snapshot import Snapshot
from tui_entropy.engine.steering.hooks import steering
from tui_entropy.engine.tokenization.token_decoder import CONTEXT_TOKENS
from tui_entropy.engine.tokenization.tokenizer import DecodeStream
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.corpus.uncertainty import ScoreSettings
from tui_entropy.records.probes.continuations import ContinuationOptions, normalize_answer
from tui_entropy.records.sampling import Knobs

LIKELIHOOD = (BY_NAME["surprisal"],)


class Sample(NamedTuple):
    token_ids: list[int]
    """Up to the end of its line, or of the text."""
    said: str
    """Without case, punctuation, articles and runs of space: what is equal counts as one meaning."""
    logprob: float
    """Nats, of these tokens behind the text."""


def samples(
    loaded: Loaded,
    ids: Sequence[int],
    settings: ScoreSettings,
    temperature: float = 1.0,
    offsets: Mapping[int, Tensor] | None = None,
) -> list[Sample]:
    """Draw from the model's own distribution at this temperature, the n-th with the noise of seed + n, as a run of
    that seed would. Empty where the text leaves no room. offsets: block (1-based) -> (d_model,), which steers all.
    """
    pushes = offsets or {}
    rows = [first_line(loaded, ids, row) for row in _drawn(loaded, ids, settings, temperature, pushes)]
    passages = [left_to_right([*ids, *token_ids], len(ids)) for token_ids, _ in rows if token_ids]
    wanted = Wanted(LIKELIHOOD, temperature=temperature)
    found = score(loaded, passages, wanted, lambda passage: pushes, together=together_of(loaded))
    logprobs = [-float(its.scores.double().sum()) for its in found]
    kept = [row for row in rows if row[0]]
    return [Sample(token_ids, said, logp) for (token_ids, said), logp in zip(kept, logprobs, strict=True)]


@torch.inference_mode()
def _drawn(
    loaded: Loaded,
    ids: Sequence[int],
    settings: ScoreSettings,
    temperature: float,
    offsets: Mapping[int, Tensor],
) -> list[list[int]]:
    knobs = Knobs(temperature=temperature, top_k=0, top_p=1.0, seed=settings.seed)
    cache = new_cache(loaded.model, loaded.architecture, len(ids))
    prompt = torch.tensor(list(ids), dtype=torch.long, device=loaded.model.device)
    with steering(loaded.architecture) as steer:
        steer.set(offsets)
        logits = forward(loaded, cache, prompt[None])[0]
        before = Snapshot(prompt, prompt[:0], 0, None, cache, logits)
        options = ContinuationOptions(settings.samples, settings.sample_tokens)
        rows = sample_continuations(loaded, before, Controls(knobs, offsets), options)
    return [row.token_ids for row in rows]


def first_line(loaded: Loaded, ids: Sequence[int], token_ids: Sequence[int]) -> tuple[list[int], str]:
    """The tokens up to the end of the first line that is not empty, and what it says."""
    stream = DecodeStream(loaded.tokenizer, list(ids[-CONTEXT_TOKENS:]))
    text = b""
    for n, token in enumerate(token_ids, 1):
        if token in loaded.tokenizer.eos_ids:
            return list(token_ids[:n]), _said(text)
        text += stream.decode_bytes([token])
        if b"\n" in text.lstrip():
            return list(token_ids[:n]), _said(text.lstrip().partition(b"\n")[0])
    return list(token_ids), _said(text)


def _said(text: bytes) -> str:
    return normalize_answer(text.decode("utf-8", "replace"))
