"""The residual stream after the last block."""

from __future__ import annotations

from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.readers import of_last_block

RESIDUAL = (
    Metric(
        "residual norm", "norm", "residual", 400.0,
        "L2 norm of the residual stream after the last block. It is set mostly by the model and the token; a jump, "
        "or a drift over the text, can point to saturation or to a vector that pushes too hard.",
        read=of_last_block("norm"),
    ),
    Metric(
        "residual mean", "number", "residual", 2.0,
        "Mean of the numbers of the residual stream after the last block. Near 0 is usual and a drift is worth a "
        "look; with RMS norms a few huge dimensions move it without harm.",
        read=of_last_block("mean"),
    ),
    Metric(
        "residual std", "number", "residual", 20.0,
        "Standard deviation of the numbers of the residual stream after the last block. Low may mean collapse and "
        "high a blow-up, against this model's own usual values only.",
        read=of_last_block("std"),
    ),
    Metric(
        "strays", "count", "residual", 6.0,
        "Blocks whose norm left the band of their own recent values, three interquartile ranges beyond the "
        "quartiles. Many at once mark an unusual token such as a first newline; it is no error by itself.",
        read=lambda step: float(len(step.strays)),
    ),
)  # fmt: skip
