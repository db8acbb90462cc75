"""From the model's logits to a token: a chain of stages in an order that is data, and a draw that can be repeated.

The stages are named after the fields of `Knobs` that switch them on. Top-k, top-p, min-p and typical-p are
transformers' own processors or have their rule, as has the repetition penalty. Frequency and presence penalty follow
OpenAI and vLLM (written tokens only), or with `penalty_last_n` llama.cpp (the newest tokens, prompt included).
Dynamic temperature, top-n-sigma, DRY, XTC and mirostat v2 follow llama.cpp (llama-sampler.cpp, common/sampling.cpp).

At temperature 0 the choice is greedy: penalties and DRY act, then the temperature stage keeps the best score alone,
and the other stages are passed over as if they were off (as `generate` does without do_sample).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import threshold

from tui_entropy.engine.sampling.distribution import (
    HUGE,
    ChainResult,
    Row,
    SamplingContext,
    is_dynamic,
    is_greedy,
    is_mirostat_alone,
)
from tui_entropy.engine.sampling.gumbel import NOISE_SPREAD, gumbel, gumbel_of, stream
from tui_entropy.engine.sampling.stages import keep_mask, narrow, rescore, rescoring_stages
from tui_entropy.records.knobs import is_off
from tui_entropy.records.sampling import Knobs


def apply(knobs: Knobs, logits: Tensor, past: SamplingContext) -> ChainResult:
    """Run the stages that are on, in `knobs.order`, each on what the one before it left.

    logits: (vocab,). Nothing here waits for an accelerator but DRY, which reads the context on the host.
    """
    return chain(stages(knobs), knobs, logits, past, narrows=logits.device.type == "cpu")


def chain(on: tuple[str, ...], knobs: Knobs, logits: Tensor, past: SamplingContext, narrows: bool) -> ChainResult:
    """Run these stages. narrows: see Row; where it does not, the numbers of `knobs` may be 0-d tensors on the device,
    and then Python looks at none of them."""
    scores = threshold(logits.detach().float().clamp(max=HUGE), -HUGE, -torch.inf)
    rows = [Row(scores, len(logits), narrows=narrows)]
    banned = [token_id for token_id in sorted(past.banned) if token_id < len(logits)]
    if banned:
        kept = torch.ones_like(rows[0].scores, dtype=torch.bool)
        kept[banned] = False
        if bool((rows[0].scores.isfinite() & kept).any()):
            rows.append(narrow(rows[0], kept))
            on = ("banned", *on)
    for stage in on[len(rows) - 1 :]:
        row = rows[-1]
        if stage in rescoring_stages(knobs):
            rows.append(replace(row, scores=rescore(stage, knobs, row, past), rescored=True))
        else:
            rows.append(narrow(row, keep_mask(stage, knobs, row, past)))
    return ChainResult(on, tuple(rows))


def force_token(chained: ChainResult, stage: str, token_id: int | Tensor) -> ChainResult:
    """One more stage, of this name, that leaves one token; even one that was removed before."""
    before = chained.rows[-1]
    ids = torch.as_tensor(token_id, device=before.scores.device).reshape(1)
    row = Row(before.scores.new_zeros(1), before.vocab, ids)
    if not before.narrows:
        row = Row(row.whole(row.scores), before.vocab, narrows=False)
    return ChainResult((*chained.stages, stage), (*chained.rows, row))


def draw(scores: Tensor, seed: int, position: int) -> Tensor:
    """One token from softmax(scores), as a 0-d int64 id: the Gumbel-max trick.

    scores: (vocab,), -inf for what can not be drawn. The noise of a token depends on (seed, position, token id)
    alone, not on what else survived, nor on the device (up to the rounding of a logarithm). A single survivor is
    certain.
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


def stages(knobs: Knobs) -> tuple[str, ...]:
    """The stages that are switched on, in order."""
    off = {stage for stage in knobs.order if is_off(knobs, stage)}
    if is_dynamic(knobs):
        off.discard("temperature")
    if knobs.xtc_threshold > 0.5:
        off.add("xtc_probability")
    if is_greedy(knobs):
        off.update(stage for stage in knobs.order if stage not in rescoring_stages(knobs) and stage != "temperature")
    if is_mirostat_alone(knobs):
        off.update(stage for stage in knobs.order if stage not in ("temperature", "mirostat_tau"))
    return tuple(stage for stage in knobs.order if stage not in off)
