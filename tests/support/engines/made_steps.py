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
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Stage, Step, Watched

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


def shaped(
    made: Step, knobs: Knobs, banned: Sequence[int] = (), forced: int | None = None, watched: Sequence[int] = ()
) -> Step:
    """The step under other knobs than the usual ones, without some tokens, with one token and no other."""
    kept = [c for c in made.candidates if c.cut is None]
    weights = {c.token_id: c.final_prob ** (0.7 / max(knobs.temperature, 0.01)) for c in kept}
    scale = sum(c.final_prob for c in kept) / (sum(weights.values()) or 1.0)
    stages, rows = list(made.stages), made.stage_probs.rows()
    if banned:
        stages, rows = [Stage("banned", 49152 - len(banned), 0.9, made.entropy), *stages], [rows[0], *rows]
    if forced is not None:
        stages, rows = [*stages, Stage("forced", 1, made.final_prob, 0.0)], [*rows, rows[-1]]
    candidates = tuple(
        replace(c, final_prob=0.0, cut="banned")
        if c.token_id in banned
        else replace(c, final_prob=weights.get(c.token_id, 0.0) * scale)
        for c in made.candidates
    )
    free = [n for n, c in enumerate(candidates, 1) if c.cut != "banned"]
    rank = made.rank if made.rank in free else free[0]
    token = next((c for c in candidates if c.token_id == forced), candidates[rank - 1])
    rank = candidates.index(token) + 1
    surprisals = [(token_id, 0.5 + token_id % 7 + made.index % 5) for token_id in watched]
    return replace(
        with_numbers(made, surprisal=-token.logprob, rank=float(rank)),
        token_id=token.token_id,
        token_bytes=token.token_bytes,
        text=token.token_bytes.decode(),
        final_prob=token.final_prob,
        candidates=candidates,
        stages=tuple(stages),
        stage_probs=grid(rows),
        watched=tuple(Watched(token_id, -nats, int(4 * nats), 12 - nats) for token_id, nats in surprisals),
    )
