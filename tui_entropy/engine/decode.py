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
from tui_entropy.engine.measure import Clock, Numbers, believed, brought_over, chosen, step_record
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
    """The tokens of one run, prompt and written, and their keys and values."""

    def __init__(self, loaded: Loaded, prompt_ids: list[int], max_tokens: int) -> None:
        self.cache: Cache = new_cache(loaded.model, loaded.anatomy)
        self.n_prompt = len(prompt_ids)
        self.n_tokens = self.n_prompt
        """Prompt and written."""
        self.newest: int | None = None
        """The token that was written last."""
        self.recent = Recent()
        self.mu: float | None = None
        """Mirostat's bound for the next token in bits; None while it is off, and at its start."""
        room = torch.zeros(min(max_tokens, max(loaded.card.context - self.n_prompt, 0)), dtype=torch.long)
        self._ids = torch.cat([torch.tensor(prompt_ids, dtype=torch.long), room]).to(loaded.model.device)

    @property
    def room(self) -> int:
        """Tokens that can still be written."""
        return len(self._ids) - self.n_tokens

    @property
    def bytes(self) -> int:
        """Of keys and values, with the room that is kept for more."""
        parts = (part for layer in self.cache.layers for part in vars(layer).values() if isinstance(part, Tensor))
        blocks = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}
        return sum(blocks.values())

    @property
    def prompt(self) -> Tensor:
        """(n_prompt,) ids."""
        return self._ids[: self.n_prompt]

    @property
    def written(self) -> Tensor:
        """(n_written,) ids."""
        return self._ids[self.n_prompt : self.n_tokens]

    def append(self, token_id: int) -> Tensor:
        """Take a written token in. Returns it as (1,)."""
        newest = self._ids[self.n_tokens : self.n_tokens + 1].fill_(token_id)
        self.n_tokens, self.newest = self.n_tokens + 1, token_id
        return newest


@torch.inference_mode()
def decode(
    loaded: Loaded,
    probes: Instruments,
    context: Context,
    controls: Callable[[], Controls],
    run: int = 1,
    score_prompt: bool = True,
) -> Generator[Prefilled | PromptScores | Step, None, str]:
    """Read the prompt, then write one token at a time, yielding a record after each stretch and each token.

    The caller sets the pace: to pause, stop asking; to stop, close the generator. `controls` is asked once per
    forward pass, so a knob turned in between counts from the next token on. Returns why it ended: 'end of text',
    'token limit' or 'context full'.
    """
    probes.attention.forget()
    text, clock = Utf8Stream(), Clock(loaded.model.device)
    *stretches, unread = torch.split(context.prompt, PREFILL_CHUNK)
    done = 0
    for stretch in stretches:
        probes.steering.set(controls().pushes)
        clock.start()
        _, scored = read(loaded, context, stretch, done, run, score_prompt)
        clock.forward_done()
        clock.stop()
        clock.rest()
        done += len(stretch)
        yield Prefilled(run, done, context.n_prompt, clock.at)
        if scored:
            yield scored
    for index in range(context.room):
        now = controls()
        probes.steering.set(now.pushes)
        clock.start()
        logits, scored = read(loaded, context, unread, done, run, score_prompt and index == 0)
        clock.forward_done()
        with one_thread:
            chained, numbers, decision = choose(probes, context, now, logits)
        clock.stop()
        mu = first_mu(context.mu, now.knobs) if "mirostat_tau" in chained.stages else None
        step = step_record(
            numbers, chained.stages, probes.attention.visible_keys(), context.recent, loaded.codec, text,
            run=run, index=index, position=context.n_tokens, decision=decision, mirostat_mu=mu,
            forward_seconds=clock.forward_seconds, sample_seconds=clock.sample_seconds, at=clock.at,
        )  # fmt: skip
        context.mu = None if mu is None else next_mu(mu, now.knobs, step.final_prob)
        unread = context.append(step.token_id)
        if index == 0:
            yield Prefilled(run, context.n_prompt, context.n_prompt, clock.at)
            if scored:
                yield scored
        clock.rest()
        yield step
        if step.token_id in loaded.codec.eos_ids:
            return "end of text"
    return "context full" if context.n_tokens >= loaded.card.context else "token limit"


def read(
    loaded: Loaded, context: Context, ids: Tensor, first: int, run: int, scored: bool
) -> tuple[Tensor, PromptScores | None]:
    """Read (n,) new tokens, the first of them at a position.

    Returns the (vocab,) float32 logits after the last of them and, where wanted, what the model thought of the tokens
    of the prompt that follow each.
    """
    if not scored:
        return forward(loaded, context.cache, ids), None
    with last_block_output(loaded.anatomy) as held:
        logits = forward(loaded, context.cache, ids)
    targets = context.prompt[first + 1 : first + 1 + len(ids)]
    if not len(targets):
        return logits, None
    table = scores(loaded.model, loaded.anatomy, held.residual[: len(targets)], targets)
    return logits, PromptScores(run, first + 1, Grid.of(table.cpu().numpy()))


def choose(
    probes: Instruments, context: Context, now: Controls, logits: Tensor
) -> tuple[Chained, Numbers, Decision | None]:
    """From (vocab,) logits to the next token: what the model believes, what the chain makes of it, the draw."""
    logp, belief = believed(logits, probes, now.knobs.n_candidates)
    knobs, decision = now.knobs, None
    if knobs.adaptive != "off":
        seen = adaptive.seen(brought_over(belief), probes.attention.visible_keys())
        may_ask = now.clarifier not in (None, context.newest)
        decision = adaptive.decide(knobs, seen, context.recent, may_ask)
        knobs = decision.knobs
    past = Past(context.prompt, context.written, context.n_tokens, context.mu, now.breakers)
    chained = apply(knobs, logits, past)
    if adaptive.asks(decision):
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
