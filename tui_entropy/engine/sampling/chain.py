"""From the model's logits to a token: a chain of stages in an order that is data, and a draw that can be repeated.

The stages themselves stand in `tui_entropy/stages`. At temperature 0 the choice is greedy: what rescores acts, the
temperature stage keeps the best score alone, and the other stages are passed over as if they were off (as `generate`
does without do_sample).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from msgspec.structs import replace as with_knobs
from torch import Tensor
from torch.nn.functional import threshold

from tui_entropy.engine.sampling.distribution import ChainResult, Row, SamplingContext, narrow
from tui_entropy.engine.sampling.gumbel import NOISE_SPREAD, gumbel, gumbel_of, stream
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.registry import BY_NAME, ORDERS, STAGES
from tui_entropy.stages.stage import GREEDY_BELOW, HUGE, Stage, on_device


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
    knobs = settled(knobs)
    for name in on[len(rows) - 1 :]:
        rows.append(_after(BY_NAME[name], rows[-1], knobs, past))
    return ChainResult(on, tuple(rows))


def _after(stage: Stage, row: Row, knobs: Knobs, past: SamplingContext) -> Row:
    values = stage.values(knobs)
    if stage.keep is None or (stage.rescore and not is_greedy(knobs)):
        assert stage.rescore
        return replace(row, scores=stage.rescore(row, past, *values), rescored=True)
    return narrow(row, stage.keep(row, past, *values))


def force_token(chained: ChainResult, stage: str, token_id: int | Tensor) -> ChainResult:
    """Add a stage of this name that leaves one token; even one that was removed before."""
    before = chained.rows[-1]
    ids = torch.as_tensor(token_id, device=before.scores.device).reshape(1)
    row = Row(before.scores.new_zeros(1), before.vocab, ids)
    if not before.narrows:
        row = Row(row.whole(row.scores), before.vocab, narrows=False)
    return ChainResult((*chained.stages, stage), (*chained.rows, row))


def draw(scores: Tensor, seed: int, position: int) -> Tensor:
    """Draw a token from softmax(scores), as a 0-d int64 id: the Gumbel-max trick.

    scores: (vocab,), -inf for what can not be drawn. The noise of a token depends on (seed, position, token id)
    alone, not on what else survived, nor on the device (up to the rounding of a logarithm). A single survivor is
    certain.
    """
    if scores.device.type != "cpu":
        return draw_of_all(scores, stream(seed, position))
    ids = torch.from_numpy(np.flatnonzero(scores.numpy() >= float(scores.max()) - NOISE_SPREAD))
    return ids[(scores[ids] + gumbel(ids, seed, position)).argmax()]


def draw_of_all(scores: Tensor, stream: int | Tensor) -> Tensor:
    """Draw with noise for every token: cheap on an accelerator, where counting survivors would wait for it."""
    return (scores + gumbel_of(torch.arange(len(scores), device=scores.device), stream)).argmax()


def next_mu(mu: float | None, knobs: Knobs, final_prob: float) -> float:
    """Mirostat's bound after a token of this final probability was drawn. Bits. It stays after one that could not be
    drawn, as of a text that was there: nothing is to be learnt from a surprisal without end.

    Source: Basu et al. 2021, 'Mirostat', as llama.cpp's v2: mu falls by eta times (surprisal - tau), from 2 tau on.
    """
    if not final_prob:
        return first_mu(mu, knobs)
    surprisal = -math.log2(final_prob)
    return first_mu(mu, knobs) - knobs.mirostat_eta * (surprisal - knobs.mirostat_tau)


def first_mu(mu: float | None, knobs: Knobs) -> float:
    """The bound itself, or where a text begins."""
    return 2 * knobs.mirostat_tau if mu is None else mu


def stages(knobs: Knobs) -> tuple[str, ...]:
    """The stages that are switched on, in order."""
    knobs = settled(knobs)
    on, greedy = [], is_greedy(knobs)
    for name in knobs.order:
        stage = BY_NAME[name]
        acts = stage.acts(*stage.values(knobs)) if stage.acts else is_on(stage, knobs)
        if acts and (stage.rescore or not greedy):
            on.append(name)
    return tuple(on)


def is_on(stage: Stage, knobs: Knobs) -> bool:
    """Whether its first knob has a value at which it does something."""
    value = getattr(knobs, stage.name)
    return on_device(value) or value != stage.knobs[0].off


def is_greedy(knobs: Knobs) -> bool:
    return not on_device(knobs.temperature) and knobs.temperature < GREEDY_BELOW


def settled(knobs: Knobs) -> Knobs:
    """The knobs with what is passed over switched off, by a stage that runs alone in this order."""
    for stage, passed_over in ALONE:
        if knobs.order == ORDERS[stage.alone_in] and is_on(stage, knobs):
            return with_knobs(knobs, **passed_over)
    return knobs


ALONE = [
    (
        alone,
        {
            knob.name: knob.off
            for stage in STAGES
            for knob in stage.knobs
            if knob.name not in (alone.name, *alone.beside) and knob.off is not None
        },
    )
    for alone in STAGES
    if alone.alone_in
]
"""Each stage that may run alone, and the knobs that it then passes over, off."""
