"""A run as a table: one row per token of prompt and text, the unit of a number in the name of its column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tui_entropy.export.recorded_run import RunRecord
from tui_entropy.metrics.readers import file_value
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.step import Step
from tui_entropy.trace.step_codec import bounds_column

FIRST: dict[str, type] = {"part": str, "step": int, "position": int, "token_id": int, "text": str, "bytes": bytes}
LAST: dict[str, type] = {
    "final_prob": float, "mirostat_mu_bits": float, "state": str, "at_seconds": float, "changed": str, "run": int,
    "bounds": str,
}  # fmt: skip
COLUMNS = FIRST | {metric.column: int if metric.kind == "count" else float for metric in METRICS} | LAST
"""part is 'prompt' or 'written'; step counts written tokens from 1; changed tells the knobs and vectors that act
from this token on; run is the one that wrote it, of a branch up to where it begins one that it goes on from; bounds
is a JSON object, the name of a column to [low, high], of the numbers of which no more is known. Everything is None
where it is unknown, or where a token of the prompt does not have it."""


def rows(record: RunRecord) -> Iterator[tuple[Step | None, tuple[Any, ...]]]:
    """For each token its step, None in the prompt, and its values of COLUMNS."""
    yield from _prompt(record)
    log, labels = record.log, record.labels
    for step, run, *values in zip(log.steps, record.writers, *map(log.steps.values, METRICS), strict=True):
        token = ("written", step.index + 1, step.position, step.token_id, step.text, step.token_bytes)
        rest = (
            step.final_prob,
            step.mirostat_mu,
            step.state,
            step.at,
            labels.get(step.index),
            run,
            bounds_column(step),
        )
        yield step, (*token, *map(file_value, METRICS, values), *rest)


def _prompt(record: RunRecord) -> Iterator[tuple[None, tuple[Any, ...]]]:
    scores = record.log.prompt_scores
    for position, one in enumerate(record.started.prompt_tokens):
        token = ("prompt", None, position, one.token_id, one.text, one.token_bytes)
        values = (file_value(one, scores[one.prompt][position] if one.prompt else None) for one in METRICS)
        yield None, (*token, *values, *[None] * (len(LAST) - 2), record.lineage[0].run, None)
