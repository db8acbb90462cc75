"""Seconds of a step."""

from __future__ import annotations

from tui_entropy.metrics.metric import Metric

TIMING = (
    Metric(
        "forward pass", "seconds", "", 0.1,
        "Seconds of the model's forward pass for this token, probes included. It grows with the context; a jump is "
        "the machine, not the model.",
        read=lambda step: step.forward_seconds,
    ),
    Metric(
        "sampling", "seconds", "", 0.02,
        "Seconds from the logits to the record of the step: metrics, chain, draw, copy. Sorting stages and many "
        "candidates raise it; it says nothing of quality.",
        read=lambda step: step.sample_seconds,
    ),
)  # fmt: skip
