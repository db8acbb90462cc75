"""From the model's logits to a token: a chain of stages in an order that is data, and a draw that can be repeated.

The stages are named after the fields of `records.Knobs` that switch them on. Top-k, top-p, min-p and typical-p are
transformers' own processors or have their rule, as has the repetition penalty. Frequency and presence penalty follow
OpenAI and vLLM (written tokens only), or with `penalty_last_n` llama.cpp (the newest tokens, prompt included).
Dynamic temperature, top-n-sigma, DRY, XTC and mirostat v2 follow llama.cpp (llama-sampler.cpp, common/sampling.cpp).

At temperature 0 the choice is greedy: penalties and DRY act, then the temperature stage keeps the best score alone,
and the other stages are passed over as if they were off (as `generate` does without do_sample).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import threshold
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from tui_entropy.engine.luck import NOISE_SPREAD, gumbel, gumbel_of, luck, stream
from tui_entropy.engine.metrics import SURPRISAL_LIMIT, log_probs
from tui_entropy.knobs import is_off
from tui_entropy.records import ORDERS, PENALTIES, Knobs

GREEDY_BELOW = 1e-3
"""Temperatures below it are taken as 0: dividing by them could overflow, and would not change the choice."""
HUGE = 1e30
"""The largest score or penalty; with a larger one a stage could overflow. A logit below its opposite is -inf: some
models write the smallest number there is for what they mask."""


@dataclass(frozen=True, slots=True)
class Past:
    """What the stages know beside the logits. The ids are int64 and on the device of the logits."""

    prompt: Tensor
    """(n,) ids."""
    written: Tensor
    """(m,) ids."""
    position: int
    """Context position of the token that is about to be drawn."""
    mu: float | Tensor | None = None
    """Bits; mirostat's bound. None at the start of a text, where it is twice the target."""
    breakers: frozenset[int] = frozenset()
    """Ids of the tokens that end a repeated sequence for DRY."""
    banned: frozenset[int] = frozenset()
    """Ids of tokens that can not be drawn, unless nothing else is there."""
    luck: Tensor | None = None
    """0-d, the number that XTC asks, where it is already on the device."""

    def seen(self, last_n: int) -> Tensor:
        """(k,) newest ids of prompt and written text; all of them where last_n is 0."""
        return torch.cat([self.prompt, self.written])[-last_n:]


@dataclass(frozen=True)
class Row:
    """What is left after a stage."""

    scores: Tensor
    """(n,) float32; -inf for a token of the whole vocabulary that can not be drawn."""
    vocab: int
    ids: Tensor | None = None
    """(n,) their token ids, ascending; None where it is the whole vocabulary."""
    rescored: bool = False
    """It holds every token of the row before."""
    narrows: bool = True
    """Once tokens are removed it is the survivors alone. Where to find them would wait for the device it does not,
    and is always the whole vocabulary."""

    @cached_property
    def logp(self) -> Tensor:
        """(n,) ln p, nats."""
        return log_probs(self.scores)

    @cached_property
    def entropy(self) -> Tensor:
        """0-d, nats."""
        return self.logp.exp() @ (-self.logp).clamp(max=SURPRISAL_LIMIT)

    @cached_property
    def survivors(self) -> Tensor:
        """0-d int64."""
        if self.ids is not None:
            return torch.tensor(len(self.ids))
        if not self.narrows:
            return (self.scores > -torch.inf).sum()
        return torch.tensor(np.count_nonzero(self.scores.numpy() > -math.inf))

    def at(self, token_ids: Tensor, numbers: Tensor) -> Tensor:
        """(k,) those of (n,) numbers of this row that belong to these tokens; -inf for a token that is not left."""
        if self.ids is None:
            return numbers[token_ids]
        places = torch.searchsorted(self.ids, token_ids).clamp_(max=len(self.ids) - 1)
        return numbers[places].masked_fill_(self.ids[places] != token_ids, -torch.inf)

    def whole(self, numbers: Tensor) -> Tensor:
        """(vocab,) the (n,) numbers of this row in their places, -inf for what is not left."""
        if self.ids is None:
            return numbers
        return numbers.new_full((self.vocab,), -torch.inf).scatter_(0, self.ids, numbers)

    def mass(self, after: Row) -> Tensor:
        """0-d: the share of this distribution that the survivors of a later row had."""
        if after.ids is not None:
            return self.at(after.ids, self.logp).exp().sum().clamp(max=1)
        return self.logp.exp().where(after.scores > -torch.inf, 0).sum().clamp(max=1)


@dataclass(frozen=True)
class Chained:
    """What the chain made of one row of logits."""

    stages: tuple[str, ...]
    """Those that are on, in order."""
    rows: tuple[Row, ...]
    """(n_stages + 1,): the logits, then what each stage left."""

    @property
    def scores(self) -> Tensor:
        """(vocab,) float32: the final distribution is its softmax; a token at -inf can not be drawn."""
        return self.rows[-1].whole(self.rows[-1].scores)

    @property
    def final_logp(self) -> Tensor:
        """(vocab,) float32, ln p of the final distribution."""
        return self.rows[-1].whole(self.rows[-1].logp)

    def cut(self, token_ids: Tensor) -> Tensor:
        """(n,) ids -> (n,) int64: index into `stages` of the one that removed the token, -1 if it can be drawn."""
        gone = torch.stack([row.at(token_ids, row.scores) for row in self.rows]).isneginf()
        return (gone.long().argmax(0) - 1).where(gone[-1], -1)  # the first row where it is gone; row 0: never there

    def summary(self) -> Tensor:
        """(n_stages, 3) float32: survivors of each stage, their mass in what the stage was given, entropy in nats."""
        if not self.stages:
            return self.rows[0].scores.new_empty(0, 3)
        one = self.rows[0].scores.new_ones(())
        numbers = [
            number
            for before, after in zip(self.rows, self.rows[1:], strict=False)
            for number in (after.survivors.float(), one if after.rescored else before.mass(after), after.entropy)
        ]
        return torch.stack(numbers).view(-1, 3)

    def probs(self, token_ids: Tensor) -> Tensor:
        """(n,) ids -> (n_stages, n) float32: the probability of each token after each stage."""
        if not self.stages:
            return self.rows[0].scores.new_empty(0, len(token_ids))
        return torch.stack([row.at(token_ids, row.logp) for row in self.rows[1:]]).exp_()


def apply(knobs: Knobs, logits: Tensor, past: Past) -> Chained:
    """Run the stages that are on, in `knobs.order`, each on what the one before it left.

    logits: (vocab,). Nothing here waits for an accelerator but DRY, which reads the context on the host.
    """
    return chain(stages(knobs), knobs, logits, past, narrows=logits.device.type == "cpu")


def chain(on: tuple[str, ...], knobs: Knobs, logits: Tensor, past: Past, narrows: bool) -> Chained:
    """Run these stages. narrows: see Row; where it does not, the numbers of `knobs` may be 0-d tensors on the device,
    and then Python looks at none of them."""
    scores = threshold(logits.detach().float().clamp(max=HUGE), -HUGE, -torch.inf)
    rows = [Row(scores, len(logits), narrows=narrows)]
    banned = [token_id for token_id in sorted(past.banned) if token_id < len(logits)]
    if banned:
        kept = torch.ones_like(rows[0].scores, dtype=torch.bool)
        kept[banned] = False
        if bool((rows[0].scores.isfinite() & kept).any()):
            rows.append(_narrowed(rows[0], kept))
            on = ("banned", *on)
    for stage in on[len(rows) - 1 :]:
        row = rows[-1]
        if stage in _rescoring(knobs):
            rows.append(replace(row, scores=_rescored(stage, knobs, row, past), rescored=True))
        else:
            rows.append(_narrowed(row, _kept(stage, knobs, row, past)))
    return Chained(on, tuple(rows))


def only(chained: Chained, stage: str, token_id: int | Tensor) -> Chained:
    """One more stage, of this name, that leaves one token; even one that was removed before."""
    before = chained.rows[-1]
    ids = torch.as_tensor(token_id, device=before.scores.device).reshape(1)
    row = Row(before.scores.new_zeros(1), before.vocab, ids)
    if not before.narrows:
        row = Row(row.whole(row.scores), before.vocab, narrows=False)
    return Chained((*chained.stages, stage), (*chained.rows, row))


def draw(scores: Tensor, seed: int, position: int) -> Tensor:
    """One token from softmax(scores), as a 0-d int64 id: the Gumbel-max trick.

    scores: (vocab,), -inf for what can not be drawn. The luck of a token depends on (seed, position, token id) alone,
    not on what else survived, nor on the device (up to the rounding of a logarithm). A single survivor is certain.
    """
    if scores.device.type != "cpu":
        return draw_of_all(scores, stream(seed, position))
    ids = torch.from_numpy(np.flatnonzero(scores.numpy() >= float(scores.max()) - NOISE_SPREAD))
    return ids[(scores[ids] + gumbel(ids, seed, position)).argmax()]


def draw_of_all(scores: Tensor, stream: int | Tensor) -> Tensor:
    """The same with noise for every token: cheap on an accelerator, where counting survivors would wait for it."""
    return (scores + gumbel_of(torch.arange(len(scores), device=scores.device), stream)).argmax()


def next_mu(mu: float | None, knobs: Knobs, final_prob: float) -> float:
    """Mirostat's bound after a token of this final probability was drawn. Bits.

    Source: Basu et al. 2021, 'Mirostat', as llama.cpp's v2: mu falls by eta times (surprisal - tau), from 2 tau on.
    """
    surprisal = -math.log2(final_prob)
    return first_mu(mu, knobs) - knobs.mirostat_eta * (surprisal - knobs.mirostat_tau)


def first_mu(mu: float | None, knobs: Knobs) -> float:
    """The bound itself, or where a text begins."""
    return 2 * knobs.mirostat_tau if mu is None else mu


def is_greedy(knobs: Knobs) -> bool:
    return not _on_device(knobs.temperature) and knobs.temperature < GREEDY_BELOW


def _on_device(value: object) -> bool:
    """A number that is not to be looked at on the host: only one that is on is given as a tensor."""
    return isinstance(value, Tensor)


def _is_on(value: float) -> bool:
    return _on_device(value) or value > 0


def stages(knobs: Knobs) -> tuple[str, ...]:
    """The stages that are switched on, in order."""
    off = {stage for stage in knobs.order if is_off(knobs, stage)}
    if is_dynamic(knobs):
        off.discard("temperature")
    if knobs.xtc_threshold > 0.5:
        off.add("xtc_probability")
    if is_greedy(knobs):
        off.update(stage for stage in knobs.order if stage not in _rescoring(knobs) and stage != "temperature")
    if _mirostat_alone(knobs):
        off.update(stage for stage in knobs.order if stage not in ("temperature", "mirostat_tau"))
    return tuple(stage for stage in knobs.order if stage not in off)


def _mirostat_alone(knobs: Knobs) -> bool:
    """llama.cpp runs nothing but a plain temperature before mirostat."""
    return _is_on(knobs.mirostat_tau) and knobs.order == ORDERS["llama.cpp"]


def is_dynamic(knobs: Knobs) -> bool:
    return _is_on(knobs.dynatemp_range) and not _mirostat_alone(knobs)


def _rescoring(knobs: Knobs) -> tuple[str, ...]:
    """The stages that change scores; all others remove tokens."""
    return (*PENALTIES, "dry_multiplier", *(() if is_greedy(knobs) else ("temperature",)))


# --- The stages --------------------------------------------------------------------------------------------------


def _rescored(stage: str, knobs: Knobs, row: Row, past: Past) -> Tensor:
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


def _kept(stage: str, knobs: Knobs, row: Row, past: Past) -> Tensor:
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
            if past.luck is not None:
                return _xtc(row, knobs.xtc_threshold) | (past.luck >= value)
            hit = luck(knobs.seed, past.position) < value
            return _xtc(row, knobs.xtc_threshold) if hit else torch.ones_like(scores, dtype=torch.bool)
        case "mirostat_tau":
            mu = 2 * value if past.mu is None else past.mu
            return _best(row.logp) | (row.logp >= -mu * math.log(2))
    raise AssertionError(stage)


def _narrowed(row: Row, kept: Tensor) -> Row:
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


def _counted(knobs: Knobs, past: Past) -> Tensor:
    """What frequency and presence penalty look at."""
    return past.seen(knobs.penalty_last_n) if knobs.penalty_last_n else past.written


def _counts(row: Row, token_ids: Tensor) -> Tensor:
    """(n,) float32: how often each token of the row is among these ids."""
    ones = torch.ones_like(token_ids, dtype=row.scores.dtype)
    counts = row.scores.new_zeros(row.vocab).scatter_add_(0, token_ids, ones)
    return counts if row.ids is None else counts[row.ids]


def _dry(knobs: Knobs, row: Row, past: Past) -> Tensor:
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
