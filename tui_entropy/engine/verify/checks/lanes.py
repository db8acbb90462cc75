"""Two minds on one text: what a shadow is told to think, and what a fan says might have been written."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from time import perf_counter

import numpy as np
import torch
from msgspec import to_builtins
from msgspec.structs import replace
from torch import Tensor

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.steering.control_vector import ControlVector, setting
from tui_entropy.engine.verify.evidence.compare import N_SINGLE, PLAIN_PASS, Tally, allowed, gap, outside
from tui_entropy.engine.verify.evidence.fields import CLOCK, TIMES
from tui_entropy.engine.verify.evidence.plain import Plain, plain
from tui_entropy.engine.verify.evidence.written import OFF, clock
from tui_entropy.engine.verify.second import belief, chain, noise
from tui_entropy.engine.verify.second.belief import Floats
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Event, Started
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.continuations import CONTINUATIONS, ContinuationOptions, SampledContinuations
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Shadow, Step

PROMPT = "The weather today is"
KNOBS: Knobs = replace(OFF, temperature=0.8, top_k=40, repetition_penalty=1.3)
STEP, FAN = N_SINGLE - 2, ContinuationOptions(n=4, tokens=4)
FANNED = [f"fanned.{name}" for name in SampledContinuations.__struct_fields__]
OF_LANES = {"kl": 1, "entropy change": 1, "surprisal change": 1, "flip": 0, "by lane": 0}
"""Series, and the power of ln 2 that they are divided by to be in bits."""


def lanes(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """A text is written beside a shadow under a vector, and then a fan is asked for."""
    tally = Tally()
    rows(tally)
    block = (loaded.architecture.n_layers + 1) // 2
    events: list[Event] = []
    ends = tuple(sorted(loaded.tokenizer.eos_ids))
    knobs = replace(KNOBS, banned=ends)
    with open_instruments(loaded, keep=0, graph=False) as instruments:
        session = Session(loaded, instruments, events.append)
        noise = torch.randn(loaded.architecture.d_model, generator=torch.Generator().manual_seed(0))
        length = float(plain(loaded, ids).streams[block - 1].square().mean().sqrt())
        vector = ControlVector("doctor", {block: (noise * length).numpy()})
        session.state.directions[vector.name] = vector
        lane = Lane("under a vector", vectors=(replace(setting(vector, ""), on=True, strength=2.0),))
        session.begin(Write(PROMPT, None, False, N_SINGLE, knobs))
        session.set_shadow(lane)
        thoughts: list[Floats] = []
        for _ in range(N_SINGLE):
            session.look_ahead(read_all=True)
            assert session.state.sequence is not None and session.state.sequence.shadow is not None
            shadowed = session.state.sequence.shadow.sequence.logits
            assert shadowed is not None
            thoughts.append(shadowed.cpu().double().numpy())
            session.advance()
        session.set_shadow(None)
        with clock(loaded.model) as passes:
            began = perf_counter()
            n_prompt = session.state.run_of(1).sequence.n_prompt
            found = answer(session, AskProbe(CONTINUATIONS, 1, n_prompt + STEP, to_builtins(FAN)))
            outer = perf_counter() - began
    prompt = [p.token_id for event in events if isinstance(event, Started) for p in event.prompt_tokens]
    steps = [event for event in events if isinstance(event, Step)]
    text = torch.tensor(prompt + [step.token_id for step in steps], device=ids.device)
    push = {block: torch.from_numpy(2.0 * vector.directions[block])}
    own, other = plain(loaded, text), plain(loaded, text, push)
    for step, seen in zip(steps, thoughts, strict=True):
        compare(loaded, step, knobs, prompt, steps, own, other, seen, tally)
    inner = sum(sorted(passes)[: FAN.tokens - 1])  # others may be of the text before it, read once more
    tally.add("seconds, fan", outside(found.seconds, inner, outer), CLOCK)
    sampled = SampledContinuations.of(found)
    compare_fan(loaded, sampled, knobs, text[: len(prompt) + STEP], len(prompt), tally)
    yield from tally.checks()


def rows(tally: Tally) -> None:
    plainly = "against two plain passes, one of them with the vector added by a hook"
    tally.row("logits of a shadow", "logits", plainly, "logits", ["shadow.logits"])
    for name, power in OF_LANES.items():
        tally.row(
            name, "logits" if name != "by lane" else "sampling", f"read off steps, {plainly}",
            "nats" if power else "tokens", [f"series {name}"],
        )  # fmt: skip
    fields = ["step.shadow", *(f"shadow.{name}" for name in Shadow.__struct_fields__)]
    tally.row("shadow", "logits", f"all that is told of it, {plainly}", TIMES, fields)
    tally.row(
        "fan",
        "logits",
        "probability of each continuation, against a plain pass over it",
        "nats",
        ["fan.logprob"],
    )
    tally.row(
        "draws of a fan", "sampling", "tokens, against the noise of each row's seed", "tokens", ["fan.token_ids"]
    )
    of_passes = "logits of a shadow", "shadow", *OF_LANES, "fan", "draws of a fan"
    tally.rests_on |= dict.fromkeys(of_passes, PLAIN_PASS)
    compared = "groups and their entropy, against texts compared word by word"
    took = "beyond what as many passes of the model took at least, or the whole answer"
    tally.row("seconds, fan", "logits", took, "s", ["probe.seconds"])
    tally.row("groups of a fan", "logits", compared, "nats", ["fan.group", "fan.text", "fan.ended", *FANNED])


def compare(
    loaded: Loaded,
    step: Step,
    knobs: Knobs,
    prompt: list[int],
    steps: Sequence[Step],
    own: Plain,
    other: Plain,
    compare: Floats,
    tally: Tally,
) -> None:
    """A step and its shadow with what two plain passes give. seen: (vocab,) logits that the shadow had."""
    shadow, dtype = step.shadow, loaded.model.dtype
    if shadow is None:
        tally.add("shadow", math.inf, 1.0)
        return
    logits = [each.logits[step.position - 1].double().numpy() for each in (own, other)]
    size = max(float(np.abs(row).max()) for row in logits)
    tally.add("logits of a shadow", gap(compare, logits[1]), allowed(dtype, size))
    p, q = (belief.log_softmax(row) for row in logits)
    token, bound = step.token_id, allowed(dtype, size)
    wanted = {
        "kl": (belief.kl(p, q), shadow.kl),
        "entropy change": (belief.entropy(p) - belief.entropy(q), step.entropy - shadow.entropy),
        "surprisal change": (float(q[token] - p[token]), step.surprisal - shadow.surprisal),
    }
    for name, (value, _) in wanted.items():
        metric = BY_NAME[name]
        in_bits = metric.value(step, bits=True)
        tally.add(name, gap(metric.read(step), value), bound)
        tally.add(name, math.inf if in_bits is None else gap(in_bits * math.log(2), value), bound)
    if min(np.diff(np.sort(row)[-2:])[0] for row in (p, q)) > 2 * bound:
        tally.add("flip", gap(BY_NAME["flip"].read(step), float(p.argmax() != q.argmax())), 0.0)
        tally.share("shadow", shadow.top_id, int(q.argmax()), 0.0)
    best, worst = belief.ranks(logits[1], token, 2 * bound)
    tally.share("shadow", outside(shadow.rank, best, worst), 0.0, 0.0)
    ids = [one.token_id for one in step.candidates]
    tally.share("shadow", shadow.logprobs, q[ids], bound)
    tally.share("shadow", shadow.entropy, belief.entropy(q), allowed(dtype, math.log(len(q))))
    tally.share("shadow", shadow.surprisal, -float(q[token]), bound)
    tally.share("shadow", (shadow.kl, shadow.js), (belief.kl(p, q), belief.js(p, q)), bound)
    texts = loaded.tokenizer.token_bytes(shadow.top_id), loaded.tokenizer.token_bytes(shadow.would_id)
    tally.share("shadow", (shadow.top_bytes, shadow.would_bytes) == texts, True, 0.0)
    before = chain.Before(
        tuple(prompt), tuple(s.token_id for s in steps[: step.index]), step.position, banned=frozenset(knobs.banned)
    )
    # Its own chain and draw begin from the logits that it had, or rounding would decide who is on an edge.
    would = chain.chain(compare, knobs, before)[-1]
    mine = chain.chain(logits[0], knobs, before)[-1]
    if not would.doubtful:
        may = noise.possible_draws(would.scores, knobs.seed, step.position, allowed(torch.float32, size))
        by_lane = BY_NAME["by lane"].read(step)
        if len(may) == 1:
            tally.add("by lane", gap(by_lane, float(next(iter(may)) != token)), 0.0)
        tally.share("shadow", shadow.would_id in may, True, 0.0)
        if not mine.doubtful:
            tally.share("shadow", shadow.final_js, belief.js(mine.logp, would.logp), bound)


def compare_fan(
    loaded: Loaded, sampled: SampledContinuations, knobs: Knobs, text: Tensor, n_prompt: int, tally: Tally
) -> None:
    """Each row of a fan read again in one plain pass."""
    prompt, written = tuple(text[:n_prompt].tolist()), tuple(text[n_prompt:].tolist())
    texts = []
    for nth, row in enumerate(sampled.rows):
        whole = torch.tensor([*prompt, *written, *row.token_ids], device=text.device)
        logits = plain(loaded, whole).logits[len(text) - 1 : -1].double().numpy()
        each = [belief.log_softmax(row_logits) for row_logits in logits]
        size = float(np.abs(logits).max())
        bound = allowed(loaded.model.dtype, size)
        total = sum(float(logp[token]) for logp, token in zip(each, row.token_ids, strict=True))
        tally.add("fan", gap(row.logprob, total), bound * len(each))
        for at, (row_logits, token) in enumerate(zip(logits, row.token_ids, strict=True)):
            before = chain.Before(
                prompt, written + row.token_ids[:at], len(text) + at, banned=frozenset(knobs.banned)
            )
            final = chain.chain(row_logits, knobs, before)[-1]
            may = noise.possible_draws(final.scores, knobs.seed + nth, len(text) + at, 4 * bound)
            if not final.doubtful:
                tally.add("draws of a fan", float(token not in may), 0.0)
        decoded = b"".join(
            loaded.tokenizer.token_bytes(token) for token in row.token_ids if token not in knobs.banned
        )
        texts.append(decoded.decode("utf-8", "replace"))
    words = [" ".join(_words(text)) for text in texts]
    sizes = sorted(Counter(words).values(), reverse=True)
    shares = np.array(sizes) / len(words)
    tally.add("groups of a fan", gap(sampled.entropy, float(-(shares * np.log(shares)).sum())), 1e-9)
    tally.add("groups of a fan", float([row.text for row in sampled.rows] != texts), 0.0)
    tally.add("groups of a fan", float(any(row.ended for row in sampled.rows)), 0.0)
    tally.add("groups of a fan", float((sampled.tokens, sampled.same) != (FAN.tokens, FAN.same)), 0.0)
    together = {(row.group, text) for row, text in zip(sampled.rows, words, strict=True)}
    tally.add("groups of a fan", float(len(together) != len(sizes)), 0.0)
    by_size = sorted(Counter(row.group for row in sampled.rows).items())  # the largest group is called 0
    tally.add("groups of a fan", float(by_size != list(enumerate(sizes))), 0.0)
    tally.add("groups of a fan", float(len(sampled.rows) != FAN.n), 0.0)


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles."""
    plain_text = "".join(" " if letter in string.punctuation else letter for letter in text.lower())
    return [word for word in plain_text.split() if word not in ("a", "an", "the")]
