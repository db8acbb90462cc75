"""The loop: a prompt in, one Step out per token.

Each turn reads what is new (the last stretch of the prompt at first, then the token just written), measures what the
model believes about the next token, lets the sampling chain shape it, draws, and yields. It knows nothing of
commands, sockets or screens.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from tui_entropy.engine import adaptive
from tui_entropy.engine.anatomy import new_cache
from tui_entropy.engine.attention import AttentionProbe, attention_probe
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.measure import Clock, Numbers, believed, brought_over, chosen, followed, step_record
from tui_entropy.engine.prompt_scores import last_block_output, scores
from tui_entropy.engine.residual import ResidualProbe, residual_probe
from tui_entropy.engine.sampling import Chained, Past, apply, draw, first_mu, next_mu, only
from tui_entropy.engine.state import Recent
from tui_entropy.engine.steering import Steering, steering
from tui_entropy.engine.text import Utf8Stream
from tui_entropy.engine.threads import one_thread
from tui_entropy.records import Decision, Grid, Knobs, Prefilled, PromptScores, Step

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


@dataclass(frozen=True, slots=True)
class Instruments:
    """What watches and steers a model while `instruments` is open."""

    attention: AttentionProbe
    residual: ResidualProbe
    steering: Steering


@contextmanager
def instruments(loaded: Loaded, keep: int = 512) -> Iterator[Instruments]:
    """Open every probe on a model; it is left as it was found. `keep`: recent queries kept for attention rows."""
    with (
        attention_probe(loaded.model, loaded.anatomy, keep) as attention,
        steering(loaded.anatomy) as steer,
        residual_probe(loaded.anatomy) as residual,
    ):
        yield Instruments(attention, residual, steer)


class Context:
    """The tokens of one run, prompt and written, their keys and values, and what later steps hang on."""

    def __init__(self, loaded: Loaded, prompt_ids: list[int], max_tokens: int) -> None:
        self.cache: Cache = new_cache(loaded.model, loaded.anatomy)
        self.n_prompt = len(prompt_ids)
        self.n_tokens = self.n_prompt
        """Prompt and written."""
        self.n_read = 0
        """Tokens whose keys and values the cache holds."""
        self.pushes: list[Mapping[int, Tensor]] = []
        """What each token was read under, also those that must be read again."""
        self.recent = Recent()
        self.text = Utf8Stream()
        self.mus: list[float | None] = [None]
        """Mirostat's bound in bits for each step, and for the next one; None while it is off, and at its start."""
        self.at = 0.0
        """Seconds of work up to the newest step."""
        self.forced: list[int] = []
        """Tokens that come next, whatever the model says."""
        self.banned: frozenset[int] = frozenset()
        """Tokens that the next one may not be."""
        room = torch.zeros(min(max_tokens, max(loaded.card.context - self.n_prompt, 0)), dtype=torch.long)
        self._ids = torch.cat([torch.tensor(prompt_ids, dtype=torch.long), room]).to(loaded.model.device)

    @property
    def room(self) -> int:
        """Tokens that can still be written."""
        return len(self._ids) - self.n_tokens

    @property
    def n_written(self) -> int:
        return self.n_tokens - self.n_prompt

    @property
    def mu(self) -> float | None:
        return self.mus[-1]

    @property
    def bytes(self) -> int:
        """Of keys and values, with the room that is kept for more."""
        parts = (part for layer in self.cache.layers for part in vars(layer).values() if isinstance(part, Tensor))
        blocks = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}
        return sum(blocks.values())

    @property
    def ids(self) -> Tensor:
        """(n_tokens,)"""
        return self._ids[: self.n_tokens]

    @property
    def prompt(self) -> Tensor:
        """(n_prompt,) ids."""
        return self._ids[: self.n_prompt]

    @property
    def written(self) -> Tensor:
        """(n_written,) ids."""
        return self._ids[self.n_prompt : self.n_tokens]

    def stretch(self, most: int) -> tuple[int, Mapping[int, Tensor] | None]:
        """The next tokens to read before the newest: up to which position, and what they were read under before."""
        first, last = self.n_read, min(self.n_read + most, self.n_tokens - 1)
        if first >= len(self.pushes):
            return last, None
        under = self.pushes[first]
        while last > first + 1 and (last > len(self.pushes) or self.pushes[last - 1] is not under):
            last -= 1
        return last, under

    def take(self, step: Step, mu: float | None) -> None:
        """A step is written. mu: mirostat's bound for the next one."""
        self._ids[self.n_tokens] = step.token_id
        self.n_tokens += 1
        self.recent.count()
        self.text.push(step.data)
        self.mus.append(mu)
        self.at = step.at
        self.forced, self.banned = self.forced[1:], frozenset()


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
    'context full'.
    """
    if not context.n_read:
        probes.attention.forget()
    clock = Clock(loaded.model.device, context.at)
    while context.n_read < context.n_tokens - 1:
        last, under = context.stretch(PREFILL_CHUNK)
        clock.start()
        _, scored = read(loaded, probes, context, last, under or controls().pushes, run, score_prompt)
        clock.forward_done()
        clock.stop()
        clock.rest()
        yield Prefilled(run, context.n_read, context.n_tokens, clock.at)
        if scored:
            yield scored
    first = context.n_written
    while context.room:
        now = controls()
        clock.start()
        # By itself even at the end of a prompt, so that every step can be visited again in the same way.
        logits, _ = read(loaded, probes, context, context.n_tokens, now.pushes, run, False)
        clock.forward_done()
        chose = choose(probes, context, now, logits)
        clock.stop()
        step, mu = proposal(loaded, probes, context, now, chose, clock, run)
        if context.n_written == first:
            yield Prefilled(run, context.n_tokens, context.n_tokens, clock.at)
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
    """Read the tokens that are not read yet, up to a position, under these pushes.

    Returns the (vocab,) float32 logits after the last of them and, where wanted, what the model thought of the tokens
    of the prompt that follow each.
    """
    probes.steering.set(pushes)
    first = context.n_read
    ids = context.ids[first:last]
    targets = context.prompt[first + 1 : last + 1]
    context.pushes[first:last] = [pushes] * (last - first)
    if not scored or not len(targets):
        logits = forward(loaded, context.cache, ids)
        context.n_read = last
        return logits, None
    with last_block_output(loaded.anatomy) as held:
        logits = forward(loaded, context.cache, ids)
    context.n_read = last
    table = scores(loaded.model, loaded.anatomy, held.residual[: len(targets)], targets)
    return logits, PromptScores(run, first + 1, Grid.of(table.cpu().numpy()))


def proposal(
    loaded: Loaded, probes: Instruments, context: Context, now: Controls, chose: Chosen, clock: Clock, run: int
) -> tuple[Step, float | None]:
    """The step that comes next, and mirostat's bound for the one after it."""
    chained, numbers, decision = chose
    mu = first_mu(context.mu, now.knobs) if "mirostat_tau" in chained.stages else None
    step = step_record(
        numbers, chained.stages, probes.attention.visible_keys(), context.recent, loaded.codec, context.text,
        run=run, index=context.n_written, position=context.n_tokens, decision=decision, mirostat_mu=mu,
        forward_seconds=clock.forward_seconds, sample_seconds=clock.sample_seconds, at=clock.at,
    )  # fmt: skip
    return step, None if mu is None else next_mu(mu, now.knobs, step.final_prob)


Chosen = tuple[Chained, Numbers, Decision | None]


@one_thread
def choose(probes: Instruments, context: Context, now: Controls, logits: Tensor) -> Chosen:
    """From (vocab,) logits to the next token: what the model believes, what the chain makes of it, the draw."""
    logp, belief = believed(logits, probes, now.knobs.n_candidates)
    belief |= followed(logits, logp, now.watched)
    knobs, decision = now.knobs, None
    if knobs.adaptive != "off":
        seen = adaptive.seen(brought_over(belief), probes.attention.visible_keys())
        newest = int(context.ids[-1]) if context.n_written else None
        may_ask = now.clarifier not in (None, newest)
        decision = adaptive.decide(knobs, seen, context.recent, may_ask)
        knobs = decision.knobs
    banned = context.banned.union(knobs.banned)
    past = Past(context.prompt, context.written, context.n_tokens, context.mu, now.breakers, banned)
    chained = apply(knobs, logits, past)
    if context.forced:
        chained = only(chained, "forced", context.forced[0])
    elif adaptive.asks(decision):
        assert now.clarifier is not None
        chained = only(chained, "adaptive", now.clarifier)
    seeds = [knobs.seed + (n << 32) for n in range(adaptive.draws(decision))]
    token = draw(chained.scores, seeds[0], context.n_tokens)
    for seed in seeds[1:]:
        other = draw(chained.scores, seed, context.n_tokens)
        token = torch.where(logp[other] > logp[token], other, token)
    return chained, brought_over(belief | chosen(logp, belief["ids"], chained, token)), decision


def forward(loaded: Loaded, cache: Cache, ids: Tensor) -> Tensor:
    """Read (n,) new tokens. Returns the (vocab,) float32 logits after the last of them."""
    out = loaded.model(input_ids=ids[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = out.logits[0, -1]
    return logits.float()
