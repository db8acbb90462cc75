"""Luck and what lies beside the chain: how even draws are, adaptive samplers in every quadrant, long texts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from tui_entropy.engine.decoding import entropix_sampler
from tui_entropy.engine.decoding.choose import sample_token
from tui_entropy.engine.instruments.tensor_metrics import log_probs
from tui_entropy.engine.measure.running_stats import RunningStats
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.sampling.chain import apply, draw
from tui_entropy.engine.sampling.distribution import SamplingContext
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.verify.evidence.compare import Tally, allowed, forward_logits
from tui_entropy.engine.verify.evidence.fields import TIMES
from tui_entropy.engine.verify.evidence.written import OFF
from tui_entropy.engine.verify.second import belief, entropix, history, noise
from tui_entropy.records.step import Decision

N_DRAWS = 2000
N_OUTCOMES = 12
LONG = 300
"""Steps: more than any window looks back."""
JUDGED = (0, 15, 16, 17, 40, 63, 64, 65, 130, 255, 256, 257, 299)


def draws(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Many seeds at one position draw each token as often as its final probability says."""
    check = partial(
        Check, "draws of many seeds", "sampling", f"chi-square of {N_DRAWS} seeds at one position",
        "chi-square", proves=("draw", "final distribution"),
    )  # fmt: skip
    rows = forward_logits(loaded.model, ids).cpu()
    logits = max(rows, key=lambda row: belief.entropy(belief.log_softmax(row.numpy())))
    nobody = torch.empty(0, dtype=torch.long)
    scores = apply(replace(OFF, top_k=N_OUTCOMES), logits, SamplingContext(nobody, nobody, 0)).scores
    order = (logits >= logits.sort(descending=True).values[:N_OUTCOMES][-1]).nonzero().flatten()  # ties stay
    shares = np.exp(belief.log_softmax(logits[order].numpy()))
    drawn = torch.tensor([int(draw(scores, seed, 17)) for seed in range(N_DRAWS)])
    counts = (drawn[:, None] == order).sum(0).numpy()
    statistic, freedom = noise.chi_square(counts, shares)
    lost = N_DRAWS - int(counts.sum())
    yield check(worst=math.inf if lost else statistic, bound=noise.chi_square_bound(freedom))


def adaptive_samplers(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Each variant in each quadrant, the clarifier, and the best of several draws."""
    tally = Tally()
    published = "quadrant and knobs for numbers all over the plane, against the published rules"
    tally.row("adaptive samplers", "sampling", published, TIMES, ["knob adaptive"])
    tally.row(
        "stage adaptive", "sampling", "what asking leaves, against the clarifier alone", "tokens", ["stage adaptive"]
    )
    tally.row("best of draws", "sampling", "the likeliest of five, against their noise", "tokens", ["best of draws"])
    base = replace(OFF, temperature=0.7, top_k=27, top_p=0.9, min_p=0.03)
    recent = RunningStats()
    for at in range(40):
        recent.evaluate(3 + 2 * math.sin(at), 4 + 3 * math.cos(at), 1.0, 0.5, [1.0])
        recent.commit()
    before = np.stack([recent.entropies, recent.varentropies], -1)
    plane = itertools.product(
        ("S1", "S3", "own"), (0.05, 1.5, 2.2, 3.5, 6.0), (0.05, 0.8, 2.0, 8.0), ((0.5, 0.1), (0.5, 1.0), (2.5, 1.0))
    )
    for variant, entropy, varentropy, (attention, spread) in plane:
        units = math.log(2), math.log(2) ** 2
        nats = {
            "entropy": entropy * units[0], "varentropy": varentropy * units[1],
            "attention_entropy": attention * units[0], "attention_varentropy": spread * units[1],
            "agreement": 0.1, "interaction": 2.0,
        }  # fmt: skip
        knobs = replace(base, adaptive=variant)
        decision = entropix_sampler.decide(knobs, nats, recent, may_ask=False)
        quadrant, expected = entropix.decision(knobs, nats, before)
        tally.share("adaptive samplers", decision.quadrant == quadrant, True, 0.0)
        for name, value in expected.items():
            tally.share("adaptive samplers", float(getattr(decision.knobs, name)), float(value), 1e-9)
    clarifier_choice(loaded, forward_logits(loaded.model, ids)[-1], ids, tally)
    yield from tally.checks()


def clarifier_choice(loaded: Loaded, logits: Tensor, ids: Tensor, tally: Tally) -> None:
    """The loop's own choice where a sampler asks, and where it draws several times."""
    sequence, logp = TokenSequence(loaded, ids.tolist(), 1), log_probs(logits)
    clarifier = int(logits.argsort()[-3])
    asking = Decision("S1", "asking", entropix_sampler.ASK, {}, OFF)
    may_ask = entropix_sampler.decide(
        replace(OFF, adaptive="S1"), {"entropy": 4 * math.log(2), "varentropy": 0.0}, RunningStats(), may_ask=True
    )
    chained, token = sample_token(logits, logp, Controls(OFF, {}, clarifier), sequence, ids, asking)
    alone = chained.scores.isfinite().nonzero().flatten().tolist() == [clarifier]
    right = entropix_sampler.asks(may_ask) and chained.stages == ("adaptive",) and alone and int(token) == clarifier
    tally.add("stage adaptive", float(not right), 0.0)
    belief64 = belief.log_softmax(logits.cpu().numpy())
    scores, close = logits.cpu().double().numpy(), allowed(torch.float32, float(logits.abs().max()))
    for seed in range(8):
        knobs = replace(OFF, seed=seed)
        several = Decision("S1", "adaptive", "", {}, knobs)
        _, token = sample_token(logits, logp, Controls(knobs, {}), sequence, ids, several)
        may = [noise.possible_draws(scores, seed + (n << 32), len(ids), close) for n in range(5)]
        best = max(float(belief64[list(tokens)].max()) for tokens in may)
        tally.add("best of draws", float(abs(float(belief64[int(token)]) - best) > close), 0.0)


def long_texts(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Running statistics over more steps than any window holds, of made-up numbers: no model is asked for them."""
    tally = Tally()
    numbers = ("entropy_z", "attention_z", "perplexity", "window_perplexity")
    judgement = "z-scores, perplexities, strays and states of a made-up text, against statistics in plain Python"
    tally.row("long text", "logits", judgement, TIMES, [f"step.{name}" for name in (*numbers, "strays", "state")])
    recent, before = RunningStats(), []
    for at in range(LONG):
        entropy, surprisal = 3 + 2 * math.sin(at * 0.7) + at * 0.004, 2 + 1.5 * math.cos(at * 1.3) + at * 0.01
        attention = 0.4 + 0.2 * math.sin(at * 0.31)
        norms = [100 + 5 * math.sin(at * (block + 1)) + 90 * (at % 37 == block) for block in range(3)]
        stats = recent.evaluate(entropy, 1.0, surprisal, attention, norms)
        recent.commit()
        before.append((entropy, surprisal, attention, norms))
        if at not in JUDGED and at % 37 > 2:
            continue
        entropies, surprisals, attentions, every_norm = (list(column) for column in zip(*before, strict=True))
        scores = history.z(entropies[:-1], entropy), history.z(attentions[:-1], attention)
        expected = (*scores, history.perplexity(surprisals), history.window_perplexity(surprisals))
        for name, value in zip(numbers, expected, strict=True):
            tally.share("long text", getattr(stats, name), value, 1e-9 * max(abs(value or 0.0), 1.0))
        tally.share("long text", stats.state == history.state(*scores, at, True), True, 0.0)
        tally.share("long text", stats.strays == history.strays(every_norm[:-1], norms), True, 0.0)
    yield from tally.checks()
