"""From the logits of a pass to a chosen token and its step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tui_entropy.engine.decoding import entropix_sampler
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.kernels.threads import one_thread
from tui_entropy.engine.measure.clock import Clock
from tui_entropy.engine.measure.finite import broken, refuse
from tui_entropy.engine.measure.step_record import Numbers, believed, brought_over, chosen, followed, step_record
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.chain import apply, draw, first_mu, next_mu, only
from tui_entropy.engine.sampling.distribution import Chained, Past
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import Context
from tui_entropy.records.step import Decision, Step


def proposal(
    loaded: Loaded, probes: Instruments, context: Context, now: Controls, chose: Chosen, clock: Clock, run: int
) -> tuple[Step, float | None]:
    """The step that comes next, and mirostat's bound for the one after it."""
    stages, numbers, decision = chose
    mu = first_mu(context.mu, now.knobs) if "mirostat_tau" in stages else None
    step = step_record(
        numbers, stages, probes.attention.visible_keys(), context.recent, context.text,
        run=run, index=context.n_written, position=context.n_tokens, decision=decision, mirostat_mu=mu,
        forward_seconds=clock.forward_seconds, sample_seconds=clock.sample_seconds, at=clock.at,
        shadow=None if context.shadow is None else context.shadow.record(numbers, context.text),
    )  # fmt: skip
    return step, None if mu is None else next_mu(mu, now.knobs, step.final_prob)


Chosen = tuple[tuple[str, ...], Numbers, Decision | None]
"""The stages that were on, the numbers on the host, and what an adaptive sampler decided."""


@one_thread
def choose(probes: Instruments, context: Context, now: Controls, logits: Tensor) -> Chosen:
    """From (vocab,) logits to the next token: what the model believes, what the chain makes of it, the draw."""
    probes.look_at(context)
    measures, stream = probes.attention.measures(context.row), probes.residual.stream(context.row)
    if probes.captured is not None and probes.captured.choice.takes(now, context):
        stages, told = probes.captured.choice.choose(logits, measures, stream, now, context)
        return stages, whole(told, logits, context), None
    logp, belief = believed(logits, measures, stream, now.knobs.n_candidates)
    if broken(logp):  # before any stage looks at it
        refuse(logits, f"at step {context.n_written + 1}")
    belief |= followed(logits, logp, now.watched)
    decision = None
    if now.knobs.adaptive != "off":
        seen = entropix_sampler.seen(whole(brought_over(belief), logits, context), probes.attention.visible_keys())
        newest = int(context.ids[-1]) if context.n_written else None
        may_ask = now.clarifier not in (None, newest)
        decision = entropix_sampler.decide(now.knobs, seen, context.recent, may_ask)
    forced = context.forced[0] if context.forced else None
    drawn = shaped(logits, logp, now, context, context.prompt, decision, context.banned, forced)
    numbers = belief | chosen(logp, belief["ids"], *drawn)
    if context.shadow is not None:
        numbers |= context.shadow.thought(now, context, decision, logp, belief["ids"], *drawn)
    return drawn[0].stages, whole(brought_over(numbers), logits, context), decision


def whole(numbers: Numbers, logits: Tensor, context: Context) -> Numbers:
    """These numbers of a step, once they are on the host. Raises NotFinite where its logits are none."""
    if math.isnan(numbers["entropy"][0]):
        refuse(logits, f"at step {context.n_written + 1}")
    return numbers


def shaped(
    logits: Tensor,
    logp: Tensor,
    now: Controls,
    context: Context,
    prompt: Tensor,
    decision: Decision | None,
    banned: frozenset[int] = frozenset(),
    forced: int | None = None,
) -> tuple[Chained, Tensor]:
    """What the chain makes of (vocab,) logits, and the token that is drawn, a 0-d id.

    logp: ln p of them. prompt: (n,) ids that what is written in the context follows.
    """
    knobs = now.knobs if decision is None else decision.knobs
    position = context.n_tokens - context.lag
    chained = apply(
        knobs,
        logits,
        Past(prompt, context.written, position, context.mu, now.breakers, banned.union(knobs.banned)),
    )
    if forced is not None:
        chained = only(chained, "forced", forced)
    elif entropix_sampler.asks(decision):
        assert now.clarifier is not None
        chained = only(chained, "adaptive", now.clarifier)
    seeds = [knobs.seed + (n << 32) for n in range(entropix_sampler.draws(decision))]
    token = draw(chained.scores, seeds[0], position)
    for seed in seeds[1:]:
        other = draw(chained.scores, seed, position)
        token = torch.where(logp[other] > logp[token], other, token)
    return chained, token
