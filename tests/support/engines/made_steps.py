"""Steps of made-up models: the one place that fills a Step, and the numbers of one by name."""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from tui_entropy.metrics.registry import COMPUTED
from tui_entropy.records.arrays import Grid
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.step import Step

OTHERS = 0.25
"""What is said of a metric that nobody names."""
NAMES = tuple(metric.field for metric in COMPUTED)


def make_step(index: int, token: bytes, position: int, n_layers: int, **fields: Any) -> Step:
    """A step with these fields, and with what is usual for all that is not given. Numbers of the model are given by
    name beside the fields."""
    warm = index >= 16
    usual = dict(
        numbers=numbers(**{name: fields.pop(name) for name in NAMES if name in fields}),
        run=1, index=index, position=position, token_id=100 + index,
        token_bytes=token, text=token.decode("utf-8", "replace"),
        perplexity=3.0, window_perplexity=2.0, visible_keys=(position,) * n_layers, strays=(),
        state="Confident" if warm else "Warming up",
        entropy_z=math.sin(index) if warm else None, attention_z=math.cos(index) if warm else None,
        forward_seconds=0.04, sample_seconds=0.002, at=0.045 * (index + 1),
    )  # fmt: skip
    return Step(**(usual | fields))  # type: ignore[arg-type]


def lens_rows(n_layers: int, every: int = 1, settled: int = 2) -> tuple[LensRow, ...]:
    """What every so many layers say, the last one the same as the layer `settled` and those after it."""
    layers = range(n_layers, -1, -every)[::-1]
    return tuple(
        LensRow(
            layer, 7 if layer >= settled else 300 + layer, b" late" if layer >= settled else b" early\xff",
            (layer + 1) / (n_layers + 2), 10 - 8 * layer / n_layers, 6 - 6 * layer / n_layers, 1 + n_layers - layer,
        )
        for layer in layers
    )  # fmt: skip


def grid(rows: Sequence[Sequence[float]]) -> Grid:
    """Rows of one length as a Grid, without numpy."""
    return Grid((len(rows), len(rows[0])), array.array("f", [value for row in rows for value in row]).tobytes())


def numbers(**named: float | None) -> tuple[float | None, ...]:
    """For `Step.numbers`."""
    assert named.keys() <= set(NAMES)
    return tuple(named.get(name, OTHERS) for name in NAMES)


def with_numbers(step: Step, **named: float | None) -> Step:
    """A step that is the same but for these."""
    return replace(step, numbers=numbers(**(dict(zip(NAMES, step.numbers, strict=True)) | named)))
