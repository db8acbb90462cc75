"""Numbers that can be drawn along the text: name, unit, scale, and how to read them off a step."""

from __future__ import annotations

from collections.abc import Callable

from tui_entropy.metrics.metric import LN2, Kind, Series
from tui_entropy.metrics.readers import (
    entropix_disagreement,
    entropix_interaction,
    entropix_spread,
    head_entropy,
    last_heads,
    mean,
    of_last_block,
    of_shadow,
    over_layers,
)
from tui_entropy.records.step import PERPLEXITY_WINDOW, SCORES, Step


def series(
    name: str, kind: Kind, distribution: str, read: Callable[[Step], float | None], ceiling: float, meaning: str
) -> Series:
    field = name.replace(" ", "_")
    return Series(name, kind, distribution, read, ceiling, meaning, field if field in SCORES else "")


SERIES = (
    series(
        "entropy", "information", "model", lambda step: step.entropy, 6 * LN2,
        "How spread the model's belief about the next token was: 0 is one certain token, 1 bit is a fair coin. "
        "High means many tokens would do, not that the written one is wrong.",
    ),
    series(
        "varentropy", "information²", "model", lambda step: step.varentropy, 8 * LN2**2,
        "The variance of the surprisal -log p under the model. High means a few likely tokens beside a long tail; it "
        "is 0 both at certainty and when all tokens that matter are equally likely, a 50/50 fork among them.",
    ),
    series(
        "surprisal", "information", "model", lambda step: step.surprisal, 8 * LN2,
        "-log p of the token that was written. High means the draw took something the model thought unlikely; "
        "its mean over the text is the log of the perplexity, not a measure of truth.",
    ),
    series(
        "rank", "count", "model", lambda step: float(step.rank), 10.0,
        "Place of the written token among all tokens, 1 for the most probable. A high rank is the sampler's luck or "
        "a flat distribution; look at entropy to tell them apart.",
    ),
    series(
        "logit margin", "logits", "model", lambda step: step.logit_margin, 8.0,
        "Logit of the most probable token minus that of the second: the log of how many times likelier it is. Near 0 "
        "two tokens tie, high means a clear favourite; it says nothing of the other tokens, nor which one was drawn.",
    ),
    series(
        "prob margin", "share", "model", lambda step: step.prob_margin, 1.0,
        "Probability of the most probable token minus that of the second. Near 1 one token has it all; near 0 is a "
        "tie or a flat distribution, which the logit margin does not tell apart either.",
    ),
    series(
        "uniform kl", "information", "model", lambda step: step.uniform_kl, 16 * LN2,
        "KL divergence from the uniform distribution, log of the vocabulary minus entropy: how much the model knows. "
        "Low means it hardly prefers anything; as it depends on the vocabulary, do not compare it between models.",
    ),
    series(
        "perplexity", "number", "model", lambda step: step.perplexity, 32.0,
        "exp of the mean surprisal of all tokens written so far: as if each had been a choice among so many. Low is "
        "text the model finds likely, which greedy sampling and repetition bring about as well as quality.",
    ),
    series(
        "window perplexity", "number", "model", lambda step: step.window_perplexity, 32.0,
        f"Perplexity of the newest {PERPLEXITY_WINDOW} written tokens. It rises where the text leaves what the model "
        "expects and falls towards 1 in a loop; over so few tokens one surprise moves it much.",
    ),
    series(
        "final entropy", "information", "final", lambda step: step.final_entropy, 6 * LN2,
        "The entropy that was left to the dice after penalties, temperature and truncation. 0 means the token was "
        "forced, however unsure the model was.",
    ),
    series(
        "head entropy", "share", "attention", head_entropy, 1.0,
        "Mean over layers and heads of attention entropy / log n, n the visible keys: 0 looks at one token, 1 at all "
        "alike. It says how widely the model looked, not what it used.",
    ),
    series(
        "head varentropy", "information²", "attention",
        lambda step: mean(step.head_varentropy.flat), 8 * LN2**2,
        "Mean over layers and heads of the variance of -log weight within a head's row. High means heads that look "
        "hard at few tokens and faintly at many; 0 is one token, or several exactly alike.",
    ),
    series(
        "entropy spread", "information²", "attention", over_layers("spread"), 4 * LN2**2,
        "Variance across the heads of a layer of their entropies, averaged over layers. High means some heads look "
        "at one token while others look everywhere; low does not mean that they look at the same tokens.",
    ),
    series(
        "head disagreement", "share", "attention", over_layers("disagreement"), 1.0,
        "Total variation between each head's row and the mean row of its layer, averaged: the share of attention "
        "that would have to move for a head to look like the others. 0 is all alike; it is no measure of conflict.",
    ),
    series(
        "interaction strength", "logits", "attention", over_layers("interaction"), 8.0,
        "Mean |attention score| before the softmax over visible keys, averaged over heads and layers. High means "
        "large scores of either sign; a constant added to a row changes it and changes no weight.",
    ),
    series(
        "entropix attention entropy", "information", "attention", lambda step: mean(last_heads(step.head_entropy)),
        6 * LN2,
        "Mean entropy of the heads of the last layer with attention, over visible keys. Entropix takes it over its "
        "whole cache, empty slots included, so its values lie near 12 bits and its thresholds mean nothing here.",
    ),
    series(
        "entropix attention varentropy", "information²", "attention", entropix_spread, 4 * LN2**2,
        "Variance across the heads of the last layer of their entropies. Entropix computes it from rows over its "
        "whole cache, empty slots included, which makes heads look alike; it is not the varentropy within a head.",
    ),
    series(
        "entropix agreement", "share", "attention", entropix_disagreement, 0.1,
        "Mean |weight - mean of heads| in the last layer, over heads and visible keys. Despite its name high means "
        "that heads differ, and it shrinks as the text grows; Entropix also counts the empty slots of its cache.",
    ),
    series(
        "entropix interaction strength", "logits", "attention", entropix_interaction, 8.0,
        "Mean |score| before the softmax in the last layer, over heads and visible keys. Entropix also counts empty "
        "cache slots, whose score is 0, so there it grows with the text; high does not mean useful.",
    ),
    series(
        "residual norm", "norm", "residual", of_last_block("norm"), 400.0,
        "L2 norm of the residual stream after the last block. It is set mostly by the model and the token; a jump, "
        "or a drift over the text, can point to saturation or to a vector that pushes too hard.",
    ),
    series(
        "residual mean", "number", "residual", of_last_block("mean"), 2.0,
        "Mean of the numbers of the residual stream after the last block. Near 0 is usual and a drift is worth a "
        "look; with RMS norms a few huge dimensions move it without harm.",
    ),
    series(
        "residual std", "number", "residual", of_last_block("std"), 20.0,
        "Standard deviation of the numbers of the residual stream after the last block. Low may mean collapse and "
        "high a blow-up, against this model's own usual values only.",
    ),
    series(
        "strays", "count", "residual", lambda step: float(len(step.strays)), 6.0,
        "Blocks whose norm left the band of their own recent values, three interquartile ranges beyond the "
        "quartiles. Many at once mark an unusual token such as a first newline; it is no error by itself.",
    ),
    series(
        "entropy z", "sd", "model", lambda step: step.entropy_z, 3.0,
        "Entropy, in standard deviations above the mean of recent steps. Above 1 counts as high and below -1 as low "
        "for the state of the model; it compares with this text only.",
    ),
    series(
        "attention z", "sd", "attention", lambda step: step.attention_z, 3.0,
        "Head entropy, in standard deviations above the mean of recent steps. High looks more widely than it just "
        "did, low more narrowly; neither says whether the model uses what it looks at.",
    ),
    series(
        "kl", "information", "model", of_shadow(lambda step, shadow: shadow.kl), 2 * LN2,
        "KL divergence of this lane from its shadow, which was given the same tokens: what the vectors, or the other "
        "prompt, changed in the belief about this token. 0 is one mind; high does not mean that the token changed.",
    ),
    series(
        "entropy change", "information", "model", of_shadow(lambda step, shadow: step.entropy - shadow.entropy),
        2 * LN2,
        "Entropy of this lane minus that of its shadow. Below 0 what tells the two apart made the model surer; near "
        "0 the two may still be sure of different tokens, which the KL shows.",
    ),
    series(
        "surprisal change", "information", "model",
        of_shadow(lambda step, shadow: step.surprisal - shadow.surprisal), 4 * LN2,
        "Surprisal of the written token in this lane minus that in its shadow. Far below 0 the token is here because "
        "of what tells the two apart; it says nothing of the tokens that were not written.",
    ),
    series(
        "flip", "count", "model",
        lambda step: float(step.shadow.top_id != step.candidates[0].token_id) if step.shadow and step.candidates
        else None, 1.0,
        "1 where the most probable token of the shadow is another one than this lane's, 0 where it is the same. With "
        "greedy sampling only these change the text; a flip between two near ties says little.",
    ),
    series(
        "by lane", "count", "final", of_shadow(lambda step, shadow: float(shadow.would_id != step.token_id)), 1.0,
        "1 where the shadow, with the same luck, would have written another token, so that this one is here only "
        "because of what tells the lanes apart. 0 where it would have written the same, however differently sure.",
    ),
    series(
        "forward pass", "seconds", "", lambda step: step.forward_seconds, 0.1,
        "Seconds of the model's forward pass for this token, probes included. It grows with the context; a jump is "
        "the machine, not the model.",
    ),
    series(
        "sampling", "seconds", "", lambda step: step.sample_seconds, 0.02,
        "Seconds from the logits to the record of the step: metrics, chain, draw, copy. Sorting stages and many "
        "candidates raise it; it says nothing of quality.",
    ),
)  # fmt: skip

BY_NAME = {series.name: series for series in SERIES}
SCORE_COLUMNS = {name: BY_NAME[name.replace("_", " ")].column for name in SCORES}
"""What tokens of a prompt have too -> its name in files."""
ATTENTION_COLUMNS = "attention_spread_nats2", "attention_disagreement", "attention_interaction_logits"
BLOCK_COLUMNS = "block_mean", "block_std", "block_norm_l2"
"""What ATTENTION and BLOCKS are called in files, where each is a number for every layer."""
