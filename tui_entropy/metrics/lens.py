"""The layers read as the model reads its last one: what follows from the lens rows of a step."""

from __future__ import annotations

from collections.abc import Callable

from tui_entropy.metrics.metric import LN2, Metric
from tui_entropy.metrics.readers import mean
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.step import Step


def commitment_layer(step: Step) -> float | None:
    """The first layer from which on all that are read say what the last one says; None where none is read."""
    layer = None
    for row in reversed(step.lens_rows):
        if row.token_id != step.lens_rows[-1].token_id:
            break
        layer = float(row.layer)
    return layer


def before_the_last(read: Callable[[LensRow], float]) -> Callable[[Step], float | None]:
    """Reads the mean over the layers that are read, all but the last, which is the model itself."""
    return lambda step: mean(read(row) for row in step.lens_rows[:-1])


LENS = (
    Metric(
        "commitment layer", "count", "residual", 32.0,
        "The first layer from which on all that the lens reads say the token that the last one says; 0 is the "
        "embedding. Low was settled early, high late; one that says it sooner and is contradicted does not count.",
        read=commitment_layer,
    ),
    Metric(
        "lens entropy", "information", "residual", 12 * LN2,
        "Mean entropy of what the layers before the last would have said, those that the lens reads. High means that "
        "most of them say nothing yet, or nothing that the model's head can read; it says little of the last.",
        read=before_the_last(lambda row: row.entropy),
    ),
    Metric(
        "lens kl", "information", "residual", 32 * LN2,
        "Mean KL divergence of the last layer from those before it that the lens reads. High means that the belief "
        "was made in the last blocks; as it depends on which layers are read, compare it between like settings.",
        read=before_the_last(lambda row: row.kl),
    ),
)  # fmt: skip
