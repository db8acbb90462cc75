"""The loop: a prompt in, one Step out per token.

Each turn reads what is new (the last stretch of the prompt at first, then the token just written), measures what the
model believes about the next token, lets the sampling chain shape it, draws, and yields. It knows nothing of
commands, sockets or screens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tui_entropy.engine import adaptive
from tui_entropy.engine.attention import AttentionProbe, attention_probe
from tui_entropy.engine.captured import CapturedPass, why_not
from tui_entropy.engine.captured_choice import CapturedChoice
from tui_entropy.engine.context import ONE_BY_ONE, Context
from tui_entropy.engine.finite import broken, first_broken, refuse
from tui_entropy.engine.forward import forward
from tui_entropy.engine.graphs import Graphs
from tui_entropy.engine.lens import unembed
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.measure import Clock, Numbers, believed, brought_over, chosen, followed, step_record
from tui_entropy.engine.own_caches import IdsCache
from tui_entropy.engine.prompt_scores import final_residual, scores
from tui_entropy.engine.residual import ResidualProbe, residual_probe
from tui_entropy.engine.rows import few_rows
from tui_entropy.engine.sampling import Chained, Past, apply, draw, first_mu, next_mu, only
from tui_entropy.engine.steering import Steering, steering
from tui_entropy.engine.threads import one_thread
from tui_entropy.records import COLUMNS, Decision, Grid, Knobs, Prefilled, PromptScores, Step

PLAINLY = "decode steps run one kernel at a time and not as a CUDA graph: {}"
"""A word to a person who asked for graphs; why it is so goes in."""
PREFILL_CHUNK = 512
"""Prompt tokens read at a time, so that masks and activations stay small and a pause or stop is heard soon."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What a person has set, as the loop needs it."""

    knobs: Knobs
    pushes: Mapping[int, Tensor]
    """Block (1-based) -> (d_model,) added to its output."""
    clarifier: int | None = None
    """The token that the adaptive sampler may ask with."""
    breakers: frozenset[int] = frozenset()
    """Tokens that end a repeated sequence for DRY."""
    watched: tuple[int, ...] = ()
    """Tokens that are followed."""


class Captured(NamedTuple):
    """A decode step as a CUDA graph holds it."""

    step: CapturedPass
    choice: CapturedChoice


@dataclass(frozen=True, slots=True)
class Instruments:
    """What watches and steers a model while `instruments` is open."""

    attention: AttentionProbe
    residual: ResidualProbe
    steering: Steering
    captured: Captured | None = None
    """Single tokens are read and chosen by this where it can be."""
    plainly: str = ""
    """Why they are not, in half a sentence, where a device could hold them as graphs."""

    def look_at(self, context: Context) -> None:
        """What is measured and kept from now on is of this text, and of those that are read with it."""
        first = context.rows[0]
        self.attention.held, self.residual.vectors = first.held, first.vectors

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Whatever is looked at in between, the text that is looked at now is looked at again afterwards."""
        before = self.attention.held, self.residual.vectors
        try:
            yield
        finally:
            self.attention.held, self.residual.vectors = before


@contextmanager
def instruments(loaded: Loaded, keep: int = 512, captured: bool | None = None) -> Iterator[Instruments]:
    """Open every probe on a model; it is left as it was found.

    keep: recent queries kept for attention rows. captured: whether steps go the way that a CUDA graph can hold, if
    the model can; None for where there are graphs and they are wanted.
    """
    with (
        attention_probe(loaded.model, loaded.anatomy, keep) as attention,
        steering(loaded.anatomy) as steer,
        residual_probe(loaded.anatomy) as residual,
        few_rows(loaded.model, loaded.card.products == COLUMNS),
    ):
        if captured is None:
            captured = loaded.graph and loaded.model.device.type == "cuda"
        if not captured:
            yield Instruments(attention, residual, steer)
            return
        graphs = Graphs(loaded.model.device)
        step = CapturedPass(loaded, attention, residual, steer, graphs)
        reason = why_not(step)
        yield Instruments(
            attention, residual, steer, None if reason else Captured(step, CapturedChoice(graphs)), reason
        )


AGAIN, TAKE = "again", "take"
"""Sent to the loop in place of asking for the next step: propose this one once more, as things are set now; or write
it, and wait."""


@torch.inference_mode()
def decode(
    loaded: Loaded,
    probes: Instruments,
    context: Context,
    controls: Callable[[], Controls],
    run: int = 1,
    score_prompt: bool = True,
) -> Generator[Prefilled | PromptScores | Step, str | None, str]:
    """Read what is not read yet, then write one token at a time, yielding a record after each stretch and each token.

    The caller sets the pace. A step that is yielded is a proposal: it is written when the next one is asked for or
    TAKE is sent, and AGAIN makes another one of the same logits. To stop, close the generator. `controls` is asked
    once per proposal, so a knob turned in between counts. Returns why it ended: 'end of text', 'token limit' or
    'context full'. Raises NotFinite where logits are no numbers, and then it cannot go on.
    """
    clock = Clock(loaded.model.device, context.at)
    reading = not context.n_read
    while context.room:
        while context.behind:
            reading = reading or context.behind > ONE_BY_ONE
            last, under = context.stretch(PREFILL_CHUNK)
            clock.start()
            _, scored = read(loaded, probes, context, last, under or controls().pushes, run, score_prompt)
            clock.forward_done()
            clock.stop()
            clock.rest()
            if reading:
                yield Prefilled(run, context.n_read, context.n_tokens, clock.at)
            if scored:
                yield scored
        now = controls()
        clock.start()
        # By itself even at the end of a prompt, so that every step can be visited again in the same way.
        logits = context.logits
        if logits is None or context.n_read < context.n_tokens:
            logits, _ = read(loaded, probes, context, context.n_tokens, now.pushes, run, False)
        clock.forward_done()
        chose = choose(probes, context, now, logits)
        clock.stop()
        step, mu = proposal(loaded, probes, context, now, chose, clock, run)
        if reading:
            yield Prefilled(run, context.n_tokens, context.n_tokens, clock.at)
            reading = False
        clock.rest()
        while (asked := (yield step)) == AGAIN:
            now = controls()
            step, mu = proposal(loaded, probes, context, now, choose(probes, context, now, logits), clock, run)
        context.take(step, mu)
        if asked == TAKE:
            yield step
        if step.token_id in loaded.codec.eos_ids:
            return "end of text"
    return "context full" if context.n_tokens >= loaded.card.context else "token limit"


def read(
    loaded: Loaded,
    probes: Instruments,
    context: Context,
    last: int,
    pushes: Mapping[int, Tensor],
    run: int,
    scored: bool,
) -> tuple[Tensor, PromptScores | None]:
    """Read the tokens that are not read yet, up to a position, under these pushes; with them the other lanes'.

    Returns the (vocab,) float32 logits after the last of them and, where wanted, what the model thought of the tokens
    of the prompt that follow each.
    """
    if context.shadow is not None and context.shadow.apart:
        other = context.shadow.context
        read(loaded, probes, other, last - context.n_tokens + other.n_tokens, other.pushed(pushes), run, False)
    rows = context.rows
    under = [pushes, *(row.pushed(pushes) for row in rows[1:])]
    probes.look_at(context)
    first = context.n_read
    ids = torch.stack([row.ids[first:last] for row in rows])
    targets = context.prompt[first + 1 : last + 1]
    scored = scored and len(targets) > 0 and first + len(targets) >= context.n_scored
    with ExitStack() as watching:
        held = watching.enter_context(final_residual(loaded.anatomy)) if scored else None
        if probes.captured is not None and held is None and probes.captured.step.takes(context, last):
            logits = probes.captured.step.read(context, ids, under)
        else:
            again = isinstance(context.cache, IdsCache)
            probes.steering.set(
                *(row.throughout(last, its) for row, its in zip(rows, under, strict=True)) if again else under
            )
            logits = forward(loaded, context.cache, ids)
    for row, its, pushed in zip(rows, logits, under, strict=True):
        row.note(last, pushed)
        row.n_read, row.logits = last, its
    if held is None:
        return logits[0], None
    context.n_scored = first + 1 + len(targets)
    fresh = held.residual[first - last :]  # a model without a cache has read all before once more
    table = scores(loaded.model, loaded.anatomy, fresh[: len(targets)], targets).cpu().numpy()
    if (at := first_broken(table)) is not None:
        refuse(unembed(loaded.model, loaded.anatomy, fresh[at : at + 1])[0], f"after prompt token {first + at + 1}")
    return logits[0], PromptScores(run, first + 1, Grid.of(table))


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
        seen = adaptive.seen(whole(brought_over(belief), logits, context), probes.attention.visible_keys())
        newest = int(context.ids[-1]) if context.n_written else None
        may_ask = now.clarifier not in (None, newest)
        decision = adaptive.decide(now.knobs, seen, context.recent, may_ask)
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
    elif adaptive.asks(decision):
        assert now.clarifier is not None
        chained = only(chained, "adaptive", now.clarifier)
    seeds = [knobs.seed + (n << 32) for n in range(adaptive.draws(decision))]
    token = draw(chained.scores, seeds[0], position)
    for seed in seeds[1:]:
        other = draw(chained.scores, seed, position)
        token = torch.where(logp[other] > logp[token], other, token)
    return chained, token
