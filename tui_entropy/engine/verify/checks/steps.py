"""The steps that the loop tells: every series and every field, against float64 and a plain pass over the text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.verify.evidence.compare import EAGER_PASS, UNITS, Tally, allowed, outside
from tui_entropy.engine.verify.evidence.fields import compare_fields
from tui_entropy.engine.verify.evidence.lens_rows import compare_lens_rows
from tui_entropy.engine.verify.evidence.prompt import compare_prompt
from tui_entropy.engine.verify.evidence.recorded_rows import compare_recorded_rows
from tui_entropy.engine.verify.evidence.schedule import SCHEDULE
from tui_entropy.engine.verify.evidence.written import LayerBelief, Seen, Text, watched
from tui_entropy.engine.verify.second import belief, heads, history
from tui_entropy.metrics.lens import commitment_layer
from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import BY_NAME, METRICS

Found = tuple[float | None, float]
"""A number by the second way, and how large the numbers are that rounding acts on in it."""

SAME_LOGITS = "read off steps, against float64 of the logits they were chosen from"
PLAIN = "read off steps, against the model's own eager pass over the text, in float64"
EARLIER = "read off steps, against statistics of the steps before"


@dataclass(frozen=True)
class Way:
    """The second way to a series."""

    group: str
    compared: str
    value: Callable[[Seen], Found]
    unit: str = ""
    power: int = 0
    """Of ln 2 that its value in nats is divided by to have it in bits."""
    exactly: bool = True
    """Made of the very numbers that the first way had; otherwise of a pass of its own, in the model's dtype."""


def vocab(seen: Seen) -> float:
    return math.log(len(seen.logits))


def last_rows(seen: Seen) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(heads, keys) of the last block with attention."""
    return seen.rows[max(seen.rows)]


def per_block(measure: Callable[[Seen, int], float], size: Callable[[Seen], float]) -> Callable[[Seen], Found]:
    """Mean over the blocks with attention."""

    def value(seen: Seen) -> Found:
        each = [measure(seen, block) for block in seen.rows]
        known = [number for number in each if not math.isnan(number)]
        return (sum(known) / len(known) if known else None), size(seen)

    return value


def share(seen: Seen, block: int) -> float:
    return float(heads.normalised(seen.rows[block], seen.rows[block].shape[1]).mean())


def keys(seen: Seen, power: int = 1) -> float:
    """ln n to a power."""
    return max(math.log(seen.step.position), 1.0) ** power


def largest_score(seen: Seen) -> float:
    return max(float(np.abs(scores).max()) for scores in seen.scores.values())


def of_last_block(at: int) -> Callable[[Seen], Found]:
    def value(seen: Seen) -> Found:
        vector = stream(seen, -1)
        stats = heads.block_stats(vector)
        return stats[at], stats[2] if at == 2 else max(stats[1], abs(stats[0]))

    return value


def stream(seen: Seen, block: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(d_model,) what a block put out where the step was chosen."""
    assert seen.plainly is not None
    vector: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        seen.plainly.streams[block, seen.step.position - 1].double().numpy()
    )
    return vector


def z(of: Callable[[Seen], list[float]], value: Callable[[Seen], float | None]) -> Callable[[Seen], Found]:
    def found(seen: Seen) -> Found:
        now = value(seen)
        score = None if now is None else history.z(of(seen), now)
        # What was counted is the float32 number, and a small deviation makes its rounding large.
        if now is None or score is None:
            return score, 1.0
        return score, max(abs(now) / float(np.std(of(seen))), 1.0)

    return found


def shares_before(seen: Seen) -> list[float]:
    read = BY_NAME["head entropy"].read
    return [value for step in seen.earlier if (value := read(step)) is not None]


def perplexity(mean: Callable[[list[float]], float]) -> Callable[[Seen], Found]:
    def value(seen: Seen) -> Found:
        found = mean([step.surprisal for step in (*seen.earlier, seen.step)])
        return found, found

    return value


def over_layers(measure: Callable[[LayerBelief], float]) -> Callable[[Seen], Found]:
    """Mean over the layers before the last that the lens reads."""

    def value(seen: Seen) -> Found:
        known = [measure(layer) for layer in seen.layers]
        return (sum(known) / len(known) if known else None), max((layer.size for layer in seen.layers), default=0.0)

    return value


def committed(seen: Seen) -> Found:
    """The told layer where rounding decides, else the nearest one that may be right."""
    told, n_layers = commitment_layer(seen.step), float(seen.step.blocks.shape[0])
    if told is None or not seen.layers:
        return (n_layers if seen.step.lens_rows else None), 0.0
    say = [(layer.behind <= layer.close, layer.behind < -layer.close) for layer in reversed(seen.layers)]
    may, must = (sum(1 for _ in takewhile(bool, column)) for column in zip(*say, strict=True))
    layers = [n_layers, *(float(layer.layer) for layer in reversed(seen.layers))]
    return min(max(told, layers[may]), layers[must]), 0.0


HEADS = partial(Way, "heads", PLAIN, exactly=False)
RESIDUAL = partial(Way, "residual", PLAIN, exactly=False)
LENS = partial(Way, "residual", "read off steps, against the model with blocks left out, in float64", exactly=False)
BEFORE = partial(Way, compared=EARLIER)

WAYS: dict[str, Way] = {
    "perplexity": BEFORE("logits", value=perplexity(history.perplexity)),
    "window perplexity": BEFORE("logits", value=perplexity(history.window_perplexity)),
    "final entropy": Way(
        "sampling", "read off steps, against the chain of stages in float64",
        lambda seen: (None if seen.final.doubtful else seen.final.entropy, vocab(seen)), "nats", 1,
    ),
    "head entropy": HEADS(per_block(share, lambda seen: 1.0), "share"),
    "head varentropy": HEADS(
        per_block(lambda seen, block: float(heads.varentropies(seen.rows[block]).mean()), partial(keys, power=2)),
        "nats²", 2,
    ),
    "entropy spread": HEADS(
        per_block(lambda seen, block: heads.spread(seen.rows[block]), partial(keys, power=2)), "nats²", 2
    ),
    "head disagreement": HEADS(
        per_block(lambda seen, block: heads.disagreement(seen.rows[block]), lambda seen: 1.0), "share"
    ),
    "interaction strength": HEADS(
        per_block(lambda seen, block: heads.interaction(seen.scores[block]), largest_score), "logits"
    ),
    "entropix attention entropy": HEADS(
        lambda seen: (float(heads.entropies(last_rows(seen)).mean()), keys(seen)), "nats", 1
    ),
    "entropix attention varentropy": HEADS(
        lambda seen: (float(heads.entropies(last_rows(seen)).var()), keys(seen, 2)), "nats²", 2
    ),
    "entropix agreement": HEADS(
        lambda seen: (
            float(np.abs(last_rows(seen) - last_rows(seen).mean(0)).mean()), 2 / last_rows(seen).shape[1]
        ), "share",
    ),
    "entropix interaction strength": HEADS(
        lambda seen: (heads.interaction(seen.scores[max(seen.rows)]), largest_score(seen)), "logits"
    ),
    "residual norm": RESIDUAL(of_last_block(2), "L2"),
    "residual mean": RESIDUAL(of_last_block(0), "residual"),
    "residual std": RESIDUAL(of_last_block(1), "residual"),
    "commitment layer": LENS(committed, "layers"),
    "lens entropy": LENS(over_layers(lambda layer: layer.entropy), "nats", 1),
    "lens kl": LENS(over_layers(lambda layer: layer.kl), "nats", 1),
    "strays": BEFORE(
        "residual",
        value=lambda seen: (
            float(len(history.strays([s.blocks.column(2) for s in seen.earlier], seen.step.blocks.column(2)))), 0.0
        ),
        unit="blocks",
    ),
    "entropy z": BEFORE(
        "logits", unit="sd",
        value=z(lambda seen: [step.entropy for step in seen.earlier], lambda seen: seen.step.entropy),
    ),
    "attention z": BEFORE(
        "heads", unit="sd", value=z(shares_before, lambda seen: BY_NAME["head entropy"].read(seen.step))
    ),
}  # fmt: skip
"""Every metric but those that bring a check of their own, those of lanes, and those of time."""
FLOAT32 = 1e-6
"""Of the largest logit: how far two may be apart that float32 cannot tell apart."""


def own_check(metric: Metric) -> Way:
    """The way of a metric that brings its check."""
    assert metric.check is not None
    check = metric.check

    def value(seen: Seen) -> Found:
        at = belief.Belief(seen.logits, seen.step.token_id, FLOAT32 * float(np.abs(seen.logits).max()))
        least, most, size = check(at)
        told = metric.read(seen.step)
        if told is None or least is None or most is None:
            return least, size
        return min(max(told, least), most), size

    unit, power = UNITS.get(metric.kind, (metric.kind, 0))
    return Way("logits", SAME_LOGITS, value, unit, power)


def ways() -> dict[str, Way]:
    """Name of a metric -> how it is had a second time, in the order of the metrics."""
    return {
        metric.name: own_check(metric) if metric.check else WAYS[metric.name]
        for metric in METRICS
        if metric.check or metric.name in WAYS
    }


OF_ATTENTION = {"heads"}


def steps(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """A text is written under all kinds of knobs, and each of its steps got a second time."""
    with open_instruments(loaded, keep=0, graph=False, record="all") as instruments:
        text = watched(loaded, instruments, SCHEDULE, ids[-3:].tolist())
    tally = Tally()
    compare_series(text, loaded.model.dtype, tally)
    compare_fields(loaded, text, tally)
    compare_recorded_rows(text, loaded.model.dtype, tally)
    compare_lens_rows(loaded, text, tally)
    compare_prompt(text, loaded.model.dtype, tally)
    yield from tally.checks()


def compare_series(text: Text, dtype: torch.dtype, tally: Tally) -> None:
    """Every metric that has a second way, in nats and in bits."""
    assert text.plainly is not None
    for name, way in ways().items():
        metric = BY_NAME[name]
        field = "step.numbers" if metric.compute else f"step.{metric.field}"
        tally.row(name, way.group, way.compared, way.unit or "number", [f"series {name}", field])
        tally.rests_on[name] = () if way.exactly else EAGER_PASS
        if way.group in OF_ATTENTION and text.plainly.missing:
            tally.skipped[name] = text.plainly.missing
            continue
        if "interaction" in name and not text.plainly.scores:
            tally.skipped[name] = "the model's eager attention asks no softmax that can be seen"
            continue
        for seen in text.seen:
            wanted, size = way.value(seen)
            if name == "final entropy" and wanted is None:
                continue
            bound = allowed(torch.float32 if way.exactly else dtype, size)
            found = [metric.read(seen.step), metric.value(seen.step, bits=False)]
            in_bits = metric.value(seen.step, bits=True)
            found.append(None if in_bits is None else in_bits * math.log(2) ** way.power)
            for each in found:
                if each is None or wanted is None:
                    tally.add(name, 0.0 if each is wanted else math.inf, bound)
                else:
                    tally.add(name, outside(each, wanted, wanted), bound)
