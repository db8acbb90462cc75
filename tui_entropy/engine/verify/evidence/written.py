"""A text that the loop writes while it is watched from outside: each step, and all that it was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor
from transformers import PreTrainedModel

from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.verify.evidence.compare import allowed
from tui_entropy.engine.verify.evidence.plain import Plain, plain
from tui_entropy.engine.verify.second import belief, chain, entropix, heads
from tui_entropy.engine.verify.second.belief import Floats
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Event, PromptScores, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

REPEATING = "Round the tower went the keeper, and round the tower went the wind; round the tower went the"
"""It ends in what was there before, for penalties and DRY."""
OFF = Knobs(temperature=1.0, top_k=0, top_p=1.0, n_candidates=50)

N_LAYERS = 4
"""Layers that the lens reads while it is written, or a few more: each of them takes a pass of its own to prove."""

SEEN = ("entropy", "varentropy", "attention_entropy", "attention_varentropy", "agreement", "interaction")
"""What an adaptive sampler reads; what else its decision tells are thresholds."""

Setting = Callable[[Floats], Knobs]
"""From the (vocab,) logits of a step in float64 to the knobs that it is to be proposed under."""


@dataclass(frozen=True)
class Seconds:
    """Around a step, by a clock of one's own."""

    model: float
    """What the model's forward took, from its hooks."""
    outside: float
    """From asking for the step to having it."""


@dataclass(frozen=True)
class LayerBelief:
    """What a layer would have said where a step was chosen, in nats."""

    layer: int
    entropy: float
    kl: float
    """KL(the last layer || this one)."""
    behind: float
    """How far the token that the last layer says is behind the best of all others; below 0 it is ahead."""
    size: float
    """How large the numbers are that rounding acts on."""
    close: float
    """How far apart two may be that the dtype cannot tell apart."""

    @classmethod
    def of(cls, layer: int, logits: Floats, final: Floats, said: int, dtype: torch.dtype) -> LayerBelief:
        """final: (vocab,) ln p of the last layer, which says that token."""
        logp = belief.log_softmax(logits)
        size = float(np.abs(logp[logp > -np.inf]).max() + np.abs(final[final > -np.inf]).max())
        behind = float(np.delete(logp, said).max() - logp[said])
        entropy, kl = belief.entropy(logp), belief.kl(final, logp)
        return cls(layer, entropy, kl, behind, size, allowed(dtype, size))


@dataclass(frozen=True)
class Seen:
    """A step that was proposed, with what it was made from."""

    step: Step
    logits: Floats
    """(vocab,) in float64; the loop chose from these."""
    knobs: Knobs
    before: chain.Before
    earlier: tuple[Step, ...]
    """The steps written before."""
    seconds: Seconds | None
    """None where it was chosen again, without the model."""
    plainly: Plain | None = None
    """A plain pass over the text, in which the step is at `step.position - 1`."""

    @cached_property
    def logp(self) -> Floats:
        return belief.log_softmax(self.logits)

    @cached_property
    def decided(self) -> tuple[str, dict[str, float]]:
        """The quadrant of an adaptive sampler, and the knobs that it sets, from what it says that it saw."""
        decision = self.step.decision
        saw = {name: decision.saw[name] for name in SEEN if name in decision.saw} if decision else {}
        recent = [(step.entropy, step.varentropy) for step in self.earlier]
        return entropix.decision(self.knobs, saw, recent) if saw else ("", {})

    @cached_property
    def left(self) -> list[chain.Left]:
        """The result of each sampling stage, by the definitions."""
        return chain.chain(self.logits, replace(self.knobs, **self.decided[1]), self.before)

    @property
    def final(self) -> chain.Left:
        return self.left[-1]

    @cached_property
    def rows(self) -> dict[int, Floats]:
        """Index of a block with attention -> (n_heads, visible keys) shares, by the plain pass."""
        assert self.plainly is not None
        at = self.step.position - 1
        every = {index: weights[:, at, : at + 1] for index, weights in self.plainly.weights.items()}
        return {index: heads.shares(rows[:, self.visible(index)]) for index, rows in every.items()}

    @cached_property
    def scores(self) -> dict[int, Floats]:
        """Attention scores per block: the rows before the softmax."""
        assert self.plainly is not None
        at = self.step.position - 1
        return {index: self.plainly.scores[index][:, at, : at + 1][:, self.visible(index)] for index in self.rows}

    @cached_property
    def layers(self) -> tuple[LayerBelief, ...]:
        """The layers before the last that the lens reads, by the plain pass with the blocks after each left out."""
        assert self.plainly is not None
        dtype, at, last = self.plainly.dtype, self.step.position - 1, int(self.logits.argmax())
        return tuple(
            LayerBelief.of(layer, logits[at].double().numpy(), self.logp, last, dtype)
            for layer, logits in self.plainly.layers.items()
        )

    def visible(self, block: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(keys up to the query,) which of them the block's mask leaves."""
        assert self.plainly is not None
        at = self.step.position - 1
        if block not in self.plainly.scores:  # its formula asks no softmax: all that have weight
            return np.asarray((self.plainly.weights[block][:, at, : at + 1] > 0).any(0))
        return self.plainly.visible(block, at)[: at + 1]


@dataclass
class Text:
    """A written text with the evidence for each of its steps."""

    started: Started
    seen: list[Seen] = field(default_factory=list)
    """Every proposal, those that were written among them."""
    steps: list[Step] = field(default_factory=list)
    prompt_scores: list[PromptScores] = field(default_factory=list)
    plainly: Plain | None = None
    followed: tuple[int, ...] = ()
    """Ids of the tokens that are watched."""


@torch.inference_mode()
def watched(
    loaded: Loaded, instruments: Instruments, schedule: Sequence[Sequence[Setting]], follow: Sequence[int]
) -> Text:
    """Write a token for each entry of the schedule, proposed under each of its settings in turn and written under the
    last; at the end one that is forced. Ends of text are banned. follow: ids of tokens to be watched."""
    events: list[Event] = []
    session = Session(loaded, instruments, events.append)
    session.begin(Write(REPEATING, None, False, len(schedule) + 1, OFF))
    decode = loaded.tokenizer.hf_tokenizer.decode
    watches = {str(decode([token])): token for token in follow}
    session.set_watches(
        [text for text, token in watches.items() if loaded.tokenizer.encode_continuation(text) == [token]]
    )
    text = Text(next(event for event in events if isinstance(event, Started)))
    text.followed = tuple(watches[watch.text] for watch in session.state.breakpoints.watches)
    ends = tuple(sorted(loaded.tokenizer.eos_ids))
    every = max(loaded.architecture.n_layers // N_LAYERS, 1)
    with clock(loaded.model) as spent:
        for settings in schedule:
            logits, seconds = _held_up(session, spent)
            for setting in settings:
                asked = setting(logits)
                session.set_knobs(replace(asked, banned=(*asked.banned, *ends), lens=every))
                text.seen.append(_seen(session, text, logits, seconds))
                seconds = None
            session.advance()
            text.steps.append(text.seen[-1].step)
        logits, _ = _held_up(session, spent)
        assert session.state.sequence is not None
        session.set_knobs(replace(OFF, banned=ends, lens=every))
        session.state.sequence.forced = [int(logits.argsort()[-2])]
        session.resample()
        text.seen.append(_seen(session, text, logits, None, ("forced", session.state.sequence.forced[0])))
        session.advance()
        text.steps.append(text.seen[-1].step)
    text.prompt_scores = [event for event in events if isinstance(event, PromptScores)]
    ids = [token.token_id for token in text.started.prompt_tokens] + [step.token_id for step in text.steps]
    layers = [row.layer for row in text.steps[0].lens_rows[:-1]]
    text.plainly = plain(loaded, torch.tensor(ids, device=loaded.model.device), attention=True, layers=layers)
    text.seen = [dataclasses.replace(seen, plainly=text.plainly) for seen in text.seen]
    return text


def _held_up(session: Session, spent: Sequence[float]) -> tuple[Floats, Seconds | None]:
    """Have the next step proposed: the logits that it was chosen from, and what it took."""
    began = perf_counter()
    session.look_ahead(read_all=True)
    outside = perf_counter() - began
    sequence = session.state.sequence
    assert session.state.proposed is not None and sequence is not None and sequence.logits is not None
    return sequence.logits.detach().cpu().double().numpy(), Seconds(spent[-1], outside) if spent else None


def _seen(
    session: Session, text: Text, logits: Floats, seconds: Seconds | None, only: tuple[str, int] | None = None
) -> Seen:
    knobs, step = session.state.knobs, session.state.proposed
    assert step is not None
    prompt = tuple(token.token_id for token in text.started.prompt_tokens)
    written = tuple(earlier.token_id for earlier in text.steps)
    breakers = _breakers(session.state.loaded, knobs, prompt + written)
    position, mu = len(prompt) + len(written), _mu([seen for seen in text.seen if seen.step in text.steps])
    before = chain.Before(prompt, written, position, mu, breakers, frozenset(knobs.banned), only)
    return Seen(step, logits, knobs, before, tuple(text.steps), seconds)


def _mu(written: Sequence[Seen]) -> float | None:
    """Mirostat's bound goes on from step to step for as long as it is on."""
    mu: float | None = None
    for seen in written:
        if "mirostat_tau" in chain.acting(seen.knobs):
            mu = chain.next_mu(2 * seen.knobs.mirostat_tau if mu is None else mu, seen.knobs, seen.step.final_prob)
        else:
            mu = None
    return mu


def _breakers(loaded: Loaded, knobs: Knobs, ids: Sequence[int]) -> frozenset[int]:
    """The DRY sequence breakers among these tokens: the tokenizer writes them with one of the breaker texts."""
    if not knobs.dry_multiplier:
        return frozenset()
    texts = {token: str(loaded.tokenizer.hf_tokenizer.decode([token])) for token in set(ids)}
    return frozenset(token for token, text in texts.items() if any(breaker in text for breaker in knobs.dry_breakers))


@contextmanager
def clock(model: PreTrainedModel) -> Iterator[list[float]]:
    """Seconds of each forward pass of the model, from its first line to its last; empty where a device works on."""
    spent: list[float] = []
    began: list[float] = []

    def begin(module: object, args: object) -> None:
        began.append(perf_counter())

    def end(module: object, args: object, output: Tensor) -> None:
        spent.append(perf_counter() - began.pop())

    if model.device.type != "cpu":
        yield spent
        return
    hooks = [model.register_forward_pre_hook(begin), model.register_forward_hook(end)]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()
