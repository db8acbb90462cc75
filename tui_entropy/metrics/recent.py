"""A step against those before it."""

from __future__ import annotations

from tui_entropy.metrics.metric import Metric

RECENT = (
    Metric(
        "entropy z", "sd", "model", 3.0,
        "Entropy, in standard deviations above the mean of recent steps. Above 1 counts as high and below -1 as low "
        "for the state of the model; it compares with this text only.",
        read=lambda step: step.entropy_z,
    ),
    Metric(
        "attention z", "sd", "attention", 3.0,
        "Head entropy, in standard deviations above the mean of recent steps. High looks more widely than it just "
        "did, low more narrowly; neither says whether the model uses what it looks at.",
        read=lambda step: step.attention_z,
    ),
)  # fmt: skip
