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

from tui_entropy.engine.anatomy import new_cache
from tui_entropy.engine.attention import AttentionProbe, attention_probe
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.measure import Clock, brought_over, measured, step_record
from tui_entropy.engine.residual import ResidualProbe, residual_probe
from tui_entropy.engine.sampling import apply, draw
from tui_entropy.engine.steering import Steering, steering
from tui_entropy.engine.text import Utf8Stream
from tui_entropy.engine.threads import one_thread
from tui_entropy.records import Knobs, Prefilled, Step

PREFILL_CHUNK = 512
"""Prompt tokens read at a time, so that masks and activations stay small and a pause or stop is heard soon."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What a person has set, as the loop needs it."""

    knobs: Knobs
    pushes: Mapping[int, Tensor]
    """Block (1-based) -> (d_model,) added to its output."""


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

    def append(self, token: Tensor) -> Tensor:
        """Take a 0-d id in, without a copy to the host. Returns it as (1,)."""
        newest = self._ids[self.n_tokens : self.n_tokens + 1]
        newest.copy_(token)
        self.n_tokens += 1
        return newest


@torch.inference_mode()
def decode(
    loaded: Loaded, probes: Instruments, context: Context, controls: Callable[[], Controls], run: int = 1
) -> Generator[Prefilled | Step, None, str]:
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
        forward(loaded, context.cache, stretch)
        clock.forward_done()
        clock.stop()
        clock.rest()
        done += len(stretch)
        yield Prefilled(run, done, context.n_prompt, clock.at)
    for index in range(context.room):
        now = controls()
        probes.steering.set(now.pushes)
        clock.start()
        logits = forward(loaded, context.cache, unread)
        clock.forward_done()
        with one_thread:
            chained = apply(now.knobs, logits, context.prompt, context.written)
            token = draw(chained.scores, now.knobs.seed, context.n_tokens)
            numbers = brought_over(measured(logits, token, chained, probes, now.knobs.n_candidates))
        clock.stop()
        position, unread = context.n_tokens, context.append(token)
        if index == 0:
            done = context.n_prompt
            yield Prefilled(run, done, done, clock.at)
        step = step_record(
            numbers,
            tuple(stage for stage, _ in chained.survivors),
            probes.attention.visible_keys(),
            loaded.codec,
            text,
            run=run,
            index=index,
            position=position,
            clock=clock,
        )
        clock.rest()
        yield step
        if step.token_id in loaded.codec.eos_ids:
            return "end of text"
    return "context full" if context.n_tokens >= loaded.card.context else "token limit"


def forward(loaded: Loaded, cache: Cache, ids: Tensor) -> Tensor:
    """Read (n,) new tokens. Returns the (vocab,) float32 logits after the last of them."""
    out = loaded.model(input_ids=ids[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = out.logits[0, -1]
    return logits.float()
