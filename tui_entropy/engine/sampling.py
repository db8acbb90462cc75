"""From the model's logits to a token: a chain of stages in an order that is data, and a draw that can be repeated.

The stages are named after the fields of `records.Knobs`. Repetition penalty, temperature, top-k, top-p, min-p and
typical-p are transformers' own processors; frequency and presence penalty follow OpenAI and vLLM (written tokens
only), top-n-sigma llama.cpp.

At temperature 0 the choice is greedy: the penalties act, then the temperature stage keeps the best score alone, and
the truncating stages are passed over as if they were off (as `generate` does without do_sample).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from tui_entropy.knobs import OFF
from tui_entropy.records import PENALTIES, Knobs

GREEDY_BELOW = 1e-3
"""Temperatures below it are taken as 0: dividing by them could overflow, and would not change the choice."""

Ids = Tensor | Sequence[int]


@dataclass(frozen=True, slots=True)
class Chained:
    """What the chain made of one row of logits."""

    scores: Tensor
    """(vocab,) float32: the final distribution is its softmax; a token at -inf can not be drawn."""
    survivors: tuple[tuple[str, Tensor], ...]
    """(stage, 0-d int64 number of tokens that can still be drawn after it), for stages that are on, in order."""
    rows: tuple[Tensor, ...]
    """(vocab,) each: the logits, then the scores after each of those stages."""

    def cut(self, token_ids: Tensor) -> Tensor:
        """(n,) ids -> (n,) int64: index into `survivors` of the stage that removed the token, -1 for none."""
        gone = torch.stack([row[token_ids] for row in self.rows]).isneginf()
        return gone.long().argmax(0) - 1  # the first row where it is gone; row 0, the logits, where it never is


def apply(knobs: Knobs, logits: Tensor, prompt_ids: Ids, written_ids: Ids) -> Chained:
    """Run the stages that are on, in `knobs.order`, each on what the one before it left.

    logits: (vocab,). Repetition looks back over prompt and written ids, frequency and presence over the written
    ones; as int64 tensors on the logits' device they cost no copy. Nothing here waits for an accelerator.
    """
    rows = [logits.detach().float()]
    survivors: list[tuple[str, Tensor]] = []
    for stage in stages(knobs):
        rows.append(_after(stage, knobs, rows[-1], prompt_ids, written_ids))
        keeps_all = stage in PENALTIES or (stage == "temperature" and not is_greedy(knobs))
        left = survivors[-1][1] if keeps_all and survivors else _left(rows[-1])
        survivors.append((stage, left))
    return Chained(rows[-1], tuple(survivors), tuple(rows))


def draw(scores: Tensor, seed: int, position: int) -> Tensor:
    """One token from softmax(scores), as a 0-d int64 id: the Gumbel-max trick.

    scores: (vocab,), -inf for what can not be drawn. The luck of a token depends on (seed, position, token id) alone,
    not on what else survived, nor on the device (up to the rounding of a logarithm). A single survivor is certain.
    """
    if scores.device.type != "cpu":  # counting survivors would wait for the device; noise for all is cheap there
        return (scores + gumbel(torch.arange(len(scores), device=scores.device), seed, position)).argmax()
    ids = _above(scores, float(scores.max()) - NOISE_SPREAD)
    return ids[(scores[ids] + gumbel(ids, seed, position)).argmax()]


def is_greedy(knobs: Knobs) -> bool:
    return knobs.temperature < GREEDY_BELOW


def stages(knobs: Knobs) -> tuple[str, ...]:
    """The stages that are switched on, in order."""
    on = (stage for stage in knobs.order if getattr(knobs, stage) != OFF[stage])
    if is_greedy(knobs):
        return tuple(stage for stage in on if stage in (*PENALTIES, "temperature"))
    return tuple(on)


# --- The stages: (vocab,) scores in, (vocab,) scores out ---------------------------------------------------------


def _after(stage: str, knobs: Knobs, scores: Tensor, prompt_ids: Ids, written_ids: Ids) -> Tensor:
    value: float = getattr(knobs, stage)
    match stage:
        case "repetition_penalty":
            context = torch.cat([_ids(prompt_ids, scores), _ids(written_ids, scores)])
            return _processed(RepetitionPenaltyLogitsProcessor(float(value)), scores, context)
        case "frequency_penalty":
            return scores - value * _counts(_ids(written_ids, scores), scores)
        case "presence_penalty":
            return scores - value * (_counts(_ids(written_ids, scores), scores) > 0)
        case "temperature":
            return _best(scores) if is_greedy(knobs) else _processed(TemperatureLogitsWarper(float(value)), scores)
        case "top_k":
            return _processed(TopKLogitsWarper(int(value)), scores)
        case "top_p":
            return _top_p(scores, value)
        case "min_p":
            return _processed(MinPLogitsWarper(value), scores)
        case "typical_p":
            return _typical_p(scores, value)
        case "top_n_sigma":
            return _top_n_sigma(scores, value)
    raise AssertionError(stage)


def _processed(processor: LogitsProcessor, scores: Tensor, context: Tensor | None = None) -> Tensor:
    ids = scores.new_empty(0, dtype=torch.long) if context is None else context
    row: Tensor = processor(ids[None], scores[None])[0]
    return row


# Top-p and typical-p sort. On a CPU, where sorting a whole vocabulary takes milliseconds, they are given only what is
# left; elsewhere to find that would wait for the device.


def _above(row: Tensor, floor: float) -> Tensor:
    """(n,) ascending ids of what is above, on a CPU. numpy finds them many times faster than torch."""
    return torch.from_numpy(np.flatnonzero(row.numpy() > floor))


def _left(scores: Tensor) -> Tensor:
    """0-d int64: how many can still be drawn."""
    if scores.device.type != "cpu":
        return (scores > -torch.inf).sum()
    return torch.tensor(np.count_nonzero(scores.numpy() > -math.inf))


def _narrowed(processor: LogitsProcessor, scores: Tensor, ids: Tensor) -> Tensor:
    """What a processor makes of these tokens; the others are removed."""
    return torch.full_like(scores, -torch.inf).scatter_(0, ids, _processed(processor, scores[ids]))


def _typical_p(scores: Tensor, p: float) -> Tensor:
    if scores.device.type != "cpu":
        return _processed(TypicalLogitsWarper(p), scores)
    return _narrowed(TypicalLogitsWarper(p), scores, _above(scores, -math.inf))


def _top_p(scores: Tensor, p: float) -> Tensor:
    """Tokens so improbable that all of them together would go in any case need not be sorted.

    With a mass `tail` left out, a share p of the whole is a share p / (1 - tail) of the rest. Where the edge falls
    among equal scores, as many of them survive as in the whole row; which ones is up to the sort there as here.
    """
    if scores.device.type != "cpu":
        return _processed(TopPLogitsWarper(p), scores)
    probs = scores.softmax(-1)
    ids = _above(probs, (1 - p) / (2 * len(probs)))
    probs[ids] = 0
    tail = float(probs.sum())  # exactly 0 where all that is left is sorted
    return _narrowed(TopPLogitsWarper(p / (1 - tail)), scores, ids)


def _top_n_sigma(scores: Tensor, n: float) -> Tensor:
    """Keep scores within n population standard deviations, over what is left, of the best."""
    alive = scores > -torch.inf
    count = alive.sum()
    mean = scores.where(alive, 0).sum() / count
    variance = (scores - mean).where(alive, 0).square().sum() / count
    return scores.masked_fill(scores < scores.max() - n * variance.sqrt(), -torch.inf)


def _best(scores: Tensor) -> Tensor:
    best = scores.argmax(keepdim=True)
    return torch.full_like(scores, -torch.inf).scatter_(0, best, scores[best])


def _ids(ids: Ids, scores: Tensor) -> Tensor:
    return torch.as_tensor(ids, dtype=torch.long, device=scores.device)


def _counts(ids: Tensor, scores: Tensor) -> Tensor:
    """(vocab,) float32: how often each token occurs."""
    return torch.zeros_like(scores).scatter_add_(0, ids, torch.ones_like(ids, dtype=scores.dtype))


# --- The luck ------------------------------------------------------------------------------------------------------

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Constants of SplitMix64. Source: Steele, Lea, Flood 2014, 'Fast splittable pseudorandom number generators'."""


def gumbel(token_ids: Tensor, seed: int, position: int) -> Tensor:
    """(n,) int64 ids -> (n,) float32 standard Gumbel noise, a function of (seed, position, token id) alone.

    A counter-based hash, so that the noise of one token costs nothing for the others: SplitMix64 of the token id in a
    stream that (seed, position) picks. 31 of its bits become a uniform number.
    """
    stream = _mixed(_mixed(seed & MASK) + position & MASK)
    bits = token_ids * _signed(GOLDEN) + _signed(stream)
    for shift, factor in ((30, FIRST), (27, SECOND)):
        bits = (bits ^ _shifted(bits, shift)) * _signed(factor)
    bits = _shifted(bits ^ _shifted(bits, 31), 33)
    # Small numbers are where the winners are, and there float32 is finest; at 1 the logarithm would be infinite.
    # So the noise lies between -ln(24 ln 2) and 32 ln 2.
    uniform = ((bits.float() + 0.5) * 2**-31).clamp(max=1 - 2**-24)
    return -(-(-uniform).log1p()).log()


MASK = 2**64 - 1
NOISE_SPREAD = 32 * math.log(2) + math.log(24 * math.log(2)) + 0.1
"""What is further than this below the best score can not win (the 0.1 is for rounding)."""


def _mixed(word: int) -> int:
    """SplitMix64 of one 64-bit word."""
    word = word + GOLDEN & MASK
    word = (word ^ word >> 30) * FIRST & MASK
    word = (word ^ word >> 27) * SECOND & MASK
    return word ^ word >> 31


def _signed(word: int) -> int:
    """The int64 with the same bits."""
    return word - 2**64 if word >> 63 else word


def _shifted(words: Tensor, by: int) -> Tensor:
    """Logical shift to the right; int64's own keeps the sign."""
    return (words >> by) & ((1 << 64 - by) - 1)
