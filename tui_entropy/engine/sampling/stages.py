"""The stages: each rescores the candidates or removes some."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from tui_entropy.engine.sampling.distribution import GREEDY_BELOW, HUGE, Row, SamplingContext, is_dynamic, is_greedy
from tui_entropy.engine.sampling.gumbel import uniform
from tui_entropy.records.sampling import PENALTIES, Knobs


def rescoring_stages(knobs: Knobs) -> tuple[str, ...]:
    """The stages that change scores; all others remove tokens."""
    return (*PENALTIES, "dry_multiplier", *(() if is_greedy(knobs) else ("temperature",)))


def rescore(stage: str, knobs: Knobs, row: Row, past: SamplingContext) -> Tensor:
    """(n,) scores after a stage that keeps every token."""
    value: float = getattr(knobs, stage)
    scores = row.scores
    match stage:
        case "repetition_penalty":
            penalised = torch.where(scores < 0, scores * value, scores / value)
            return penalised.where(_counts(row, past.seen(knobs.penalty_last_n)) > 0, scores)
        case "frequency_penalty":
            return scores - value * _counts(row, _counted(knobs, past))
        case "presence_penalty":
            return scores - value * (_counts(row, _counted(knobs, past)) > 0)
        case "dry_multiplier":
            return scores - _dry(knobs, row, past)
        case "temperature":
            return scores / _temperature(knobs, row)
    raise AssertionError(stage)


def keep_mask(stage: str, knobs: Knobs, row: Row, past: SamplingContext) -> Tensor:
    """(n,) bool: which tokens a stage leaves, at least one."""
    value: float = getattr(knobs, stage)
    scores = row.scores
    match stage:
        case "temperature":
            return _best(scores)
        case "top_k":
            return scores >= _nth_best(scores, value)
        case "top_p":
            return _top_p(row, value)
        case "min_p":
            return _left_by(_warper(MinPLogitsWarper, "min_p", value), scores)
        case "typical_p":
            return _left_by(_warper(TypicalLogitsWarper, "mass", value), scores)
        case "top_n_sigma":
            return _top_n_sigma(scores, value)
        case "xtc_probability":
            if past.uniform is not None:
                return _xtc(row, knobs.xtc_threshold) | (past.uniform >= value)
            hit = uniform(knobs.seed, past.position) < value
            return _xtc(row, knobs.xtc_threshold) if hit else torch.ones_like(scores, dtype=torch.bool)
        case "mirostat_tau":
            mu = 2 * value if past.mu is None else past.mu
            return _best(row.logp) | (row.logp >= -mu * math.log(2))
    raise AssertionError(stage)


def narrow(row: Row, kept: Tensor) -> Row:
    if not row.narrows:
        return Row(row.scores.where(kept, -torch.inf), row.vocab, narrows=False)
    alive = row.scores.numpy() > -math.inf
    left = torch.from_numpy(np.flatnonzero(kept.numpy() & alive))  # many times faster than torch's nonzero
    return Row(row.scores[left], row.vocab, left if row.ids is None else row.ids[left])


def _left_by(processor: LogitsProcessor, scores: Tensor) -> Tensor:
    left: Tensor = processor(scores.new_empty(1, 0, dtype=torch.long), scores[None])[0] > -torch.inf
    return left


def _warper(kind: Callable[[float], LogitsProcessor], name: str, value: float | Tensor) -> LogitsProcessor:
    """One that has its number on the device: when it is made, it would be waited for to be checked."""
    warper = kind(0.5 if isinstance(value, Tensor) else value)
    setattr(warper, name, value)
    return warper


def _nth_best(scores: Tensor, n: float | Tensor) -> Tensor:
    """(1,)"""
    if isinstance(n, Tensor):  # to index by it would look at it
        return scores.sort(descending=True).values.gather(0, (n.long() - 1).clamp(max=len(scores) - 1).view(1))
    return scores.topk(min(int(n), len(scores))).values[-1:]


def _counted(knobs: Knobs, past: SamplingContext) -> Tensor:
    """What frequency and presence penalty look at."""
    return past.seen(knobs.penalty_last_n) if knobs.penalty_last_n else past.written


def _counts(row: Row, token_ids: Tensor) -> Tensor:
    """(n,) float32: how often each token of the row is among these ids."""
    ones = torch.ones_like(token_ids, dtype=row.scores.dtype)
    counts = row.scores.new_zeros(row.vocab).scatter_add_(0, token_ids, ones)
    return counts if row.ids is None else counts[row.ids]


def _dry(knobs: Knobs, row: Row, past: SamplingContext) -> Tensor:
    """(n,) what DRY takes off: multiplier * base ^ (length - allowed), for a token that would go on repeating.

    Source: llama.cpp, llama_sampler_dry: the sequence repeated does not reach over a breaker, a breaker itself is not
    penalised, and the exponent stops where float32 would overflow.
    """
    context = past.seen(knobs.penalty_last_n).cpu().numpy()
    longest = repeats(context, past.breakers)
    most = math.log(HUGE, knobs.dry_base) if knobs.dry_base > 1 else math.inf
    penalties = {
        token_id: min(knobs.dry_multiplier * knobs.dry_base ** min(length - knobs.dry_allowed_length, most), HUGE)
        for token_id, length in longest.items()
        if length >= knobs.dry_allowed_length and token_id not in past.breakers
    }
    ids = torch.tensor(list(penalties), dtype=torch.long, device=row.scores.device)
    values = torch.tensor(list(penalties.values()), dtype=row.scores.dtype, device=row.scores.device)
    taken = row.scores.new_zeros(row.vocab).scatter_(0, ids, values)
    return taken if row.ids is None else taken[row.ids]


def repeats(context: npt.NDArray[np.int64], breakers: frozenset[int]) -> dict[int, int]:
    """Token id -> length of the longest end of the context that occurred before, followed by this token.

    context: (n,) ids. The end begins after the newest breaker.
    """
    unbroken = next(
        (n for n, token_id in enumerate(reversed(context.tolist())) if token_id in breakers), len(context)
    )
    longest: dict[int, int] = {}
    ends = np.flatnonzero(context[:-1] == context[-1:])  # of what equals the newest `length` tokens
    for length in range(1, min(unbroken, len(context) - 1) + 1):
        if not len(ends):
            break
        longest |= dict.fromkeys(context[ends + 1].tolist(), length)
        ends = ends[ends >= length]
        ends = ends[context[ends - length] == context[-1 - length]]
    return longest


def _best(scores: Tensor) -> Tensor:
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(0, scores.argmax(keepdim=True), True)


def _temperature(knobs: Knobs, row: Row) -> float | Tensor:
    """As set, or within `dynatemp_range` of that, rising with H / ln n: 0 is certainty, 1 is n tokens alike.

    Source: llama.cpp, llama_sampler_temp_ext; its temperature before mirostat is the plain one.
    """
    if not is_dynamic(knobs):
        return knobs.temperature
    low, high = knobs.temperature - knobs.dynatemp_range, knobs.temperature + knobs.dynatemp_range
    low = low.clamp(min=0) if isinstance(low, Tensor) else max(low, 0.0)
    ceiling = row.survivors.log()
    share = (row.entropy / ceiling).where(ceiling > 0, 0).clamp(0, 1)
    return (low + (high - low) * share**knobs.dynatemp_exponent).clamp(min=GREEDY_BELOW)


def _top_p(row: Row, p: float) -> Tensor:
    """Tokens so improbable that all of them together would go in any case need not be sorted, which takes
    milliseconds for a whole vocabulary on a CPU.

    With a mass `tail` left out, a share p of the whole is a share p / (1 - tail) of the rest. Where the edge falls
    among equal scores, as many of them survive as in the whole row; which ones is up to the sort there as here.
    """
    scores = row.scores
    if not row.narrows:
        return _left_by(_warper(TopPLogitsWarper, "top_p", p), scores)
    probs = scores.softmax(-1)
    likely = torch.from_numpy(np.flatnonzero(probs.numpy() > (1 - p) / (2 * len(probs))))
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[likely] = _left_by(TopPLogitsWarper(p / (1 - float(probs.index_fill_(0, likely, 0).sum()))), scores[likely])
    return kept


def _top_n_sigma(scores: Tensor, n: float) -> Tensor:
    """Keep scores within n population standard deviations, over what is left, of the best."""
    alive = scores > -torch.inf
    count = alive.sum()
    mean = scores.where(alive, 0).sum() / count
    variance = (scores - mean).where(alive, 0).square().sum() / count
    return scores >= scores.max() - n * variance.sqrt()


def _xtc(row: Row, likely: float) -> Tensor:
    """Of the tokens that reach the threshold, all but the least probable go. Source: llama.cpp, llama_sampler_xtc."""
    p = row.logp.exp()
    above = (p >= likely) & (row.scores > -torch.inf)
    least = p.where(above, torch.inf).argmin(keepdim=True)
    return ~above.scatter(0, least, False)
