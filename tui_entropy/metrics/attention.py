"""The metrics of attention: how widely the heads looked, and how they differ; the last four after Entropix."""

from __future__ import annotations

from tui_entropy.metrics.metric import LN2, Metric
from tui_entropy.metrics.readers import (
    entropix_disagreement,
    entropix_interaction,
    entropix_spread,
    head_entropy,
    last_heads,
    mean,
    over_layers,
)

ATTENTION = (
    Metric(
        "head entropy", "share", "attention", 1.0,
        "Mean over layers and heads of attention entropy / log n, n the visible keys: 0 looks at one token, 1 at all "
        "alike. It says how widely the model looked, not what it used.",
        read=head_entropy,
    ),
    Metric(
        "head varentropy", "information²", "attention", 8 * LN2**2,
        "Mean over layers and heads of the variance of -log weight within a head's row. High means heads that look "
        "hard at few tokens and faintly at many; 0 is one token, or several exactly alike.",
        read=lambda step: mean(step.head_varentropy.flat),
    ),
    Metric(
        "entropy spread", "information²", "attention", 4 * LN2**2,
        "Variance across the heads of a layer of their entropies, averaged over layers. High means some heads look "
        "at one token while others look everywhere; low does not mean that they look at the same tokens.",
        read=over_layers("spread"),
    ),
    Metric(
        "head disagreement", "share", "attention", 1.0,
        "Total variation between each head's row and the mean row of its layer, averaged: the share of attention "
        "that would have to move for a head to look like the others. 0 is all alike; it is no measure of conflict.",
        read=over_layers("disagreement"),
    ),
    Metric(
        "interaction strength", "logits", "attention", 8.0,
        "Mean |attention score| before the softmax over visible keys, averaged over heads and layers. High means "
        "large scores of either sign; a constant added to a row changes it and changes no weight.",
        read=over_layers("interaction"),
    ),
    Metric(
        "entropix attention entropy", "information", "attention", 6 * LN2,
        "Mean entropy of the heads of the last layer with attention, over visible keys. Entropix takes it over its "
        "whole cache, empty slots included, so its values lie near 12 bits and its thresholds mean nothing here.",
        read=lambda step: mean(last_heads(step.head_entropy)),
    ),
    Metric(
        "entropix attention varentropy", "information²", "attention", 4 * LN2**2,
        "Variance across the heads of the last layer of their entropies. Entropix computes it from rows over its "
        "whole cache, empty slots included, which makes heads look alike; it is not the varentropy within a head.",
        read=entropix_spread,
    ),
    Metric(
        "entropix agreement", "share", "attention", 0.1,
        "Mean |weight - mean of heads| in the last layer, over heads and visible keys. Despite its name high means "
        "that heads differ, and it shrinks as the text grows; Entropix also counts the empty slots of its cache.",
        read=entropix_disagreement,
    ),
    Metric(
        "entropix interaction strength", "logits", "attention", 8.0,
        "Mean |score| before the softmax in the last layer, over heads and visible keys. Entropix also counts empty "
        "cache slots, whose score is 0, so there it grows with the text; high does not mean useful.",
        read=entropix_interaction,
    ),
)  # fmt: skip
