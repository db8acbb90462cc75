"""The metrics of what the model believed about the next token, and of the one that came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tui_entropy.metrics.metric import LN2, Expected, Metric, exactly
from tui_entropy.records.step import PERPLEXITY_WINDOW

if TYPE_CHECKING:
    from tui_entropy.metrics.inputs import Belief


def check_entropy(at: Belief) -> Expected:
    return exactly(float(at.p @ at.nats), math.log(len(at.logits)))


def check_varentropy(at: Belief) -> Expected:
    """The second moment less the square of the first, where the metric takes the mean square distance."""
    return exactly(float(at.p @ at.nats**2 - (at.p @ at.nats) ** 2), math.log(len(at.logits)) ** 2)


def check_surprisal(at: Belief) -> Expected:
    nats = float(at.surprisals[at.token])
    return exactly(nats, nats + math.log(len(at.logits)))


def check_rank(at: Belief) -> Expected:
    """The ranks that are right: where float32 cannot tell two tokens apart, either may come first."""
    own = at.logits[at.token]
    best, worst = int((at.logits > own + at.close).sum()), int((at.logits > own - at.close).sum())
    return 1.0 + best, max(float(worst), 1.0), 0.0


def check_logit_margin(at: Belief) -> Expected:
    rest = at.logits.copy()
    rest.sort()
    known = len(rest) > 1 and not math.isinf(rest[-2])
    return exactly(float(rest[-1] - rest[-2]) if known else None, at.size)


def check_prob_margin(at: Belief) -> Expected:
    rest = at.p.copy()
    rest.sort()
    second = rest[-2] if len(rest) > 1 else 0.0
    return exactly(float(rest[-1] - second) if len(at.logits) > 1 else None, 1.0)


def check_uniform_kl(at: Belief) -> Expected:
    """The mean of ln p - ln 1/vocab, where the metric takes ln vocab less the entropy."""
    return exactly(float(at.p @ (math.log(len(at.logits)) - at.nats)), math.log(len(at.logits)))


MODEL = (
    Metric(
        "entropy", "information", "model", 6 * LN2,
        "How spread the model's belief about the next token was: 0 is one certain token, 1 bit is a fair coin. "
        "High means many tokens would do, not that the written one is wrong.",
        compute=lambda at: at.entropy, on_prompt=True,
        check=check_entropy,
    ),
    Metric(
        "varentropy", "information²", "model", 8 * LN2**2,
        "The variance of the surprisal -log p under the model. High means a few likely tokens beside a long tail; it "
        "is 0 both at certainty and when all tokens that matter are equally likely, a 50/50 fork among them.",
        compute=lambda at: at.moments[1], on_prompt=True,
        check=check_varentropy,
    ),
    Metric(
        "surprisal", "information", "model", 8 * LN2,
        "-log p of the token that was written. High means the draw took something the model thought unlikely; "
        "its mean over the text is the log of the perplexity, not a measure of truth.",
        compute=lambda at: at.surprisal, of_token=True, on_prompt=True,
        check=check_surprisal,
    ),
    Metric(
        "rank", "count", "model", 10.0,
        "Place of the written token among all tokens, 1 for the most probable. A high rank is the sampler's luck or "
        "a flat distribution; look at entropy to tell them apart.",
        compute=lambda at: at.rank, of_token=True, on_prompt=True,
        check=check_rank,
    ),
    Metric(
        "logit margin", "logits", "model", 8.0,
        "Logit of the most probable token minus that of the second: the log of how many times likelier it is. Near 0 "
        "two tokens tie, high means a clear favourite; it says nothing of the other tokens, nor which one was drawn.",
        compute=lambda at: at.margins[0], on_prompt=True,
        check=check_logit_margin,
    ),
    Metric(
        "prob margin", "share", "model", 1.0,
        "Probability of the most probable token minus that of the second. Near 1 one token has it all; near 0 is a "
        "tie or a flat distribution, which the logit margin does not tell apart either.",
        compute=lambda at: at.margins[1], on_prompt=True,
        check=check_prob_margin,
    ),
    Metric(
        "uniform kl", "information", "model", 16 * LN2,
        "KL divergence from the uniform distribution, log of the vocabulary minus entropy: how much the model knows. "
        "Low means it hardly prefers anything; as it depends on the vocabulary, do not compare it between models.",
        compute=lambda at: (math.log(at.logits.shape[-1]) - at.entropy).clamp(min=0), on_prompt=True,
        check=check_uniform_kl,
    ),
    Metric(
        "perplexity", "number", "model", 32.0,
        "exp of the mean surprisal of all tokens written so far: as if each had been a choice among so many. Low is "
        "text the model finds likely, which greedy sampling and repetition bring about as well as quality.",
        read=lambda step: step.perplexity,
    ),
    Metric(
        "window perplexity", "number", "model", 32.0,
        f"Perplexity of the newest {PERPLEXITY_WINDOW} written tokens. It rises where the text leaves what the model "
        "expects and falls towards 1 in a loop; over so few tokens one surprise moves it much.",
        read=lambda step: step.window_perplexity,
    ),
    Metric(
        "final entropy", "information", "final", 6 * LN2,
        "The entropy that was left to the dice after penalties, temperature and truncation. 0 means the token was "
        "forced, however unsure the model was.",
        read=lambda step: step.final_entropy,
    ),
)  # fmt: skip
