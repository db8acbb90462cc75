"""The loop: a prompt in, one Step out per token.

Each turn reads what is new (the last stretch of the prompt at first, then the token just written), measures what the
model believes about the next token, lets the sampling chain shape it, draws, and yields. It knows nothing of
commands, sockets or screens.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import Cache

from tui_entropy.engine import adaptive
from tui_entropy.engine.anatomy import new_cache
from tui_entropy.engine.attention import AttentionProbe, Held, attention_probe
from tui_entropy.engine.cache import n_bytes, tensors
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.measure import Clock, Numbers, believed, brought_over, chosen, followed, step_record
from tui_entropy.engine.prompt_scores import last_block_output, scores
from tui_entropy.engine.residual import ResidualProbe, residual_probe
from tui_entropy.engine.rows import two_rows
from tui_entropy.engine.sampling import Chained, Past, apply, draw, first_mu, next_mu, only
from tui_entropy.engine.state import Recent
from tui_entropy.engine.steering import Steering, steering
from tui_entropy.engine.text import Utf8Stream
from tui_entropy.engine.threads import one_thread
from tui_entropy.records import Decision, Grid, Knobs, Prefilled, PromptScores, Step

if TYPE_CHECKING:
    from tui_entropy.engine.shadow import ShadowLane

PREFILL_CHUNK = 512
"""Prompt tokens read at a time, so that masks and activations stay small and a pause or stop is heard soon."""
ONE_BY_ONE = 32
"""Written tokens that are read again one by one, as they were at first. More are read in stretches, which is faster
and the same only up to rounding."""


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

    def look_at(self, context: Context) -> None:
        """What is measured and kept from now on is of this text, and of those that are read with it."""
        first = context.rows[0]
        self.attention.held, self.residual.vectors = first.held, first.vectors


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
        self._loaded = loaded
        self.rows: list[Context] = [self]
        """Those whose keys and values are the rows of this cache and are read together, in the first one's turn."""
        self.shadow: ShadowLane | None = None
        """Another mind that is asked at every step."""
        self.under: Mapping[int, Tensor] | None = None
        """What it is read under beside another lane; None for what that one is."""
        self.lag = 0
        """What is taken off a position before it is asked for luck: tokens more than in the lane it is beside."""
        self.n_prompt = len(prompt_ids)
        self.n_tokens = self.n_prompt
        """Prompt and written."""
        self.n_scored = 0
        """Tokens of the prompt whose scores were told."""
        self.pushes: list[Mapping[int, Tensor]] = []
        """What each token was read under, also those that must be read again."""
        self.stamps: list[int] = []
        """Of each of them a number that only contexts share in which it, all before it, and what they were read under
        are the same. So they share its keys and values too."""
        self.recent = Recent()
        self.text = Utf8Stream()
        self.mus: list[float | None] = [None]
        """Mirostat's bound in bits for each step, and for the next one; None while it is off, and at its start."""
        self.ats = [0.0]
        """Seconds of work before each step, and up to the newest."""
        self.forced: list[int] = []
        """Tokens that come next, whatever the model says."""
        self.banned: frozenset[int] = frozenset()
        """Tokens that the next one may not be."""
        self.meddled: dict[int, tuple[list[int], frozenset[int]]] = {}
        """Step -> what was forced there and what banned, where anything was."""
        room = torch.zeros(min(max_tokens, max(loaded.card.context - self.n_prompt, 0)), dtype=torch.long)
        self._ids = torch.cat([torch.tensor(prompt_ids, dtype=torch.long), room]).to(loaded.model.device)
        self.let_go()

    def let_go(self) -> None:
        """Begin with an empty cache: what was read is to be read again."""
        self.rows = [self]
        self.cache: Cache = new_cache(self._loaded.model, self._loaded.anatomy)
        self.n_read = 0
        """Tokens whose keys and values the cache holds."""
        self.held = Held()
        self.vectors: list[Tensor | None] = [None] * self._loaded.anatomy.n_layers
        """With `held`, what the probes have of it."""
        self.logits: Tensor | None = None
        """(vocab,) float32 after the newest token that was read."""

    def branch(self, step: int, max_tokens: int = 0) -> Context:
        """As this one was before a step, with room for that many more tokens. Nothing of it is in its cache."""
        n = self.n_prompt + step
        new = Context(self._loaded, self._ids[:n].tolist(), max_tokens)
        new.n_prompt, new.n_scored, new.lag = self.n_prompt, self.n_scored, self.lag
        new.pushes, new.stamps = self.pushes[:n], self.stamps[:n]
        new.recent, new.mus, new.ats = self.recent.first(step), self.mus[: step + 1], self.ats[: step + 1]
        new.meddled = {at: how for at, how in self.meddled.items() if at < step}
        new.text.push(b"".join(map(self._loaded.codec.token_bytes, new.written.tolist())))
        return new

    def shared(self, other: Context) -> int:
        """How many tokens, from the first on, have the same keys and values in both."""
        ours, theirs = self.stamps, other.stamps
        return bisect_left(range(min(len(ours), len(theirs))), True, key=lambda at: ours[at] != theirs[at])

    @property
    def room(self) -> int:
        """Tokens that can still be written."""
        return len(self._ids) - self.n_tokens

    @property
    def n_written(self) -> int:
        return self.n_tokens - self.n_prompt

    @property
    def behind(self) -> int:
        """Tokens to read before the newest."""
        return max(self.n_tokens - 1 - self.n_read, 0)

    @property
    def mu(self) -> float | None:
        return self.mus[-1]

    @property
    def at(self) -> float:
        """Seconds of work up to the newest step."""
        return self.ats[-1]

    @property
    def bytes(self) -> int:
        """Of keys and values, with the room that is kept for more."""
        return n_bytes(tensor for layer in self.cache.layers for tensor in tensors(layer))

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
        """The next tokens to read before the newest: up to which position, and what they were read under before.

        As they were read at first: the prompt in stretches of which its last token is no part, and what was written
        one by one as long as it is not much, so that to the bit the same comes of it.
        """
        first, newest = self.n_read, self.n_tokens - 1
        if first < self.n_prompt - 1:
            newest = min(newest, self.n_prompt - 1)
        elif self.behind <= ONE_BY_ONE:
            most = 1
        return self.alike(min(first + most, newest))

    def alike(self, last: int) -> tuple[int, Mapping[int, Tensor] | None]:
        """Up to which position, at most `last`, the tokens that are not read now were read under the same before, and
        under what. None where they never were."""
        first = self.n_read
        if first >= len(self.pushes):
            return last, None
        under = self.pushes[first]
        same = itertools.takewhile(lambda pushes: pushes is under, self.pushes[first:last])
        return first + sum(1 for _ in same), under

    def note(self, last: int, pushes: Mapping[int, Tensor]) -> None:
        """The tokens that are not read yet, up to a position, are read under these pushes now."""
        for position in range(self.n_read, last):
            if position < len(self.pushes) and self.pushes[position] is pushes:
                continue
            self.pushes[position:], self.stamps[position:] = [pushes], [next(_stamps)]

    @property
    def row(self) -> int:
        """Its place in the passes that it shares."""
        return self.rows.index(self)

    def pushed(self, pushes: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """What it is read under where the lane that it stands beside is read under these."""
        return pushes if self.under is None else self.under

    def write(self, token_id: int) -> None:
        self._ids[self.n_tokens] = token_id
        self.n_tokens += 1

    def take(self, step: Step, mu: float | None) -> None:
        """A step is written. mu: mirostat's bound for the next one."""
        if self.forced or self.banned:
            self.meddled[self.n_written] = self.forced[:1], self.banned
        self.write(step.token_id)
        if self.shadow is not None and self.shadow.context is not self:
            self.shadow.context.write(step.token_id)
        self.recent.count()
        self.text.push(step.data)
        self.mus.append(mu)
        self.ats.append(step.at)
        self.forced, self.banned = self.forced[1:], frozenset()


_stamps = itertools.count()

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
    probes.steering.set(*under)
    first = context.n_read
    ids = torch.stack([row.ids[first:last] for row in rows])
    targets = context.prompt[first + 1 : last + 1]
    scored = scored and len(targets) > 0 and first + len(targets) >= context.n_scored
    with ExitStack() as watching:
        held = watching.enter_context(last_block_output(loaded.anatomy)) if scored else None
        logits = forward(loaded, context.cache, ids)
    for row, its, pushed in zip(rows, logits, under, strict=True):
        row.note(last, pushed)
        row.n_read, row.logits = last, its
    if held is None:
        return logits[0], None
    context.n_scored = first + 1 + len(targets)
    table = scores(loaded.model, loaded.anatomy, held.residual[: len(targets)], targets)
    return logits[0], PromptScores(run, first + 1, Grid.of(table.cpu().numpy()))


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
        shadow=None if context.shadow is None else context.shadow.record(numbers, loaded.codec),
    )  # fmt: skip
    return step, None if mu is None else next_mu(mu, now.knobs, step.final_prob)


Chosen = tuple[Chained, Numbers, Decision | None]


@one_thread
def choose(probes: Instruments, context: Context, now: Controls, logits: Tensor) -> Chosen:
    """From (vocab,) logits to the next token: what the model believes, what the chain makes of it, the draw."""
    probes.look_at(context)
    logp, belief = believed(logits, probes, now.knobs.n_candidates, context.row)
    belief |= followed(logits, logp, now.watched)
    decision = None
    if now.knobs.adaptive != "off":
        seen = adaptive.seen(brought_over(belief), probes.attention.visible_keys())
        newest = int(context.ids[-1]) if context.n_written else None
        may_ask = now.clarifier not in (None, newest)
        decision = adaptive.decide(now.knobs, seen, context.recent, may_ask)
    forced = context.forced[0] if context.forced else None
    drawn = shaped(logits, logp, now, context, context.prompt, decision, context.banned, forced)
    numbers = belief | chosen(logp, belief["ids"], *drawn)
    if context.shadow is not None:
        numbers |= context.shadow.thought(now, context, decision, logp, belief["ids"], *drawn)
    return drawn[0], brought_over(numbers), decision


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


def forward(loaded: Loaded, cache: Cache, ids: Tensor) -> Tensor:
    """Read (rows, n) new tokens. Returns the (rows, vocab) float32 logits after the last of each."""
    with two_rows(loaded.model) if ids.shape == (2, 1) else nullcontext():
        out = loaded.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = out.logits[:, -1]
    return logits.float()
