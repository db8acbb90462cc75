"""A step as columns and blobs of a trace, and back."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tui_entropy.metrics.registry import BY_FIELD, COMPUTED, METRICS
from tui_entropy.records import lens_rows
from tui_entropy.records.arrays import Grid
from tui_entropy.records.model import ModelCard
from tui_entropy.records.quantised_rows import FORM, QuantisedRows
from tui_entropy.records.step import (
    ATTENTION,
    BLOCKS,
    STATES,
    Bounds,
    Candidate,
    Decision,
    Shadow,
    Stage,
    Step,
    Watched,
)
from tui_entropy.trace.sandbox import MAX_GRID_NUMBERS
from tui_entropy.trace.schema import ADDED, BLOBS, CODES, NUMBERS, OF_LENS, OPTIONAL, SCALARS

# --- A step as two rows --------------------------------------------------------------------------------------


def packed(code: str, numbers: Sequence[float]) -> bytes:
    return array(code, numbers).tobytes()


def shapes(step: Step) -> dict[str, dict[str, Any]]:
    """The description of every blob, for the header: what its numbers are, and how many along each axis."""
    stages, candidates = "stages", "candidates"
    axes: dict[str, Sequence[int | str]] = {
        "head_entropy_nats": step.head_entropy.shape,
        "head_varentropy_nats2": step.head_varentropy.shape,
        "attention": step.attention.shape,
        "blocks": step.blocks.shape,
        "visible_keys": ["1 or layers"],
        "stage_results": [stages, len(RESULTS)],
        "stage_probs": [stages, f"1 + {candidates}"],
        "watched": ["watches", len(FOLLOWED)],
        "shadow": [f"{len(MIND)} + {candidates}"],
        "attention_rows": ["bytes"],
        "lens_rows": ["rows"],
    }
    return {name: {"dtype": kind, "shape": axes.get(name, [candidates])} for name, kind in BLOBS.items()}


RESULTS = ("survivors", "mass", "entropy")
"""The numbers of a Stage."""
FOLLOWED = ("token_id", "logprob", "rank", "logit")
"""The numbers of a Watched."""
MIND = ("kl", "js", "final_js", "entropy", "surprisal", "rank", "top_id", "would_id")
"""The numbers of a Shadow; behind them what it thinks of each candidate."""


def step_row(seq: int, wall: float, step: Step) -> tuple[Any, ...]:
    """The row of `steps`, in the order of STEP."""
    values: dict[str, Any] = {metric.column: metric.read(step) for metric in METRICS}
    values |= {name: getattr(step, field) for field, name in SCALARS.items()}
    return (
        seq,
        step.run,
        step.index,
        wall,
        step.position,
        step.token_id,
        step.text,
        step.token_bytes,
        *(values[name] for name in NUMBERS),
        step.state,
        ",".join(stage_names(step)),
        json.dumps(step.strays) if step.strays else None,
        None if step.decision is None else _decision_json(step.decision),
        *(values[name] for name in ADDED),
        bounds_column(step),
        *(values[name] for name in OF_LENS),
    )


def arrays_row(seq: int, step: Step) -> tuple[Any, ...]:
    """The row of `arrays`, in the order of BLOBS."""
    names = stage_names(step)
    keys = [-1 if n is None else n for n in step.visible_keys]
    final = [candidate.final_prob for candidate in step.candidates]
    cuts = [-1 if candidate.cut is None else names.index(candidate.cut) for candidate in step.candidates]
    results = [number for stage in step.stages for number in (stage.survivors, stage.mass, stage.entropy)]
    return (
        seq,
        step.blocks.data,
        step.attention.data,
        step.head_entropy.data,
        step.head_varentropy.data,
        packed("i", keys[:1] if len(set(keys)) == 1 else keys),
        packed("i", [candidate.token_id for candidate in step.candidates]),
        packed("f", [candidate.logprob for candidate in step.candidates]),
        packed("b", cuts),
        None if _last_stage(step.stage_probs, len(final)) == final else packed("d", final),
        packed("f", results),
        step.stage_probs.data,
        packed("f", [getattr(one, name) for one in step.watched for name in FOLLOWED]) if step.watched else None,
        None if step.shadow is None else _thought(step.shadow),
        None if step.attention_rows is None else step.attention_rows.data,
        lens_rows.packed(step.lens_rows) or None,
    )


def tokens(step: Step) -> list[tuple[int, bytes]]:
    """The tokens that a step names by their ids, with their bytes."""
    named = [(candidate.token_id, candidate.token_bytes) for candidate in step.candidates]
    named += [(row.token_id, row.token_bytes) for row in step.lens_rows]
    if (shadow := step.shadow) is not None:
        named += [(shadow.top_id, shadow.top_bytes), (shadow.would_id, shadow.would_bytes)]
    return named


def _thought(shadow: Shadow) -> bytes:
    return packed("f", [*(getattr(shadow, name) for name in MIND), *shadow.logprobs])


def stage_names(step: Step) -> list[str]:
    """The stages that were on, in order, and behind them whatever else cut a candidate."""
    cuts = [candidate.cut for candidate in step.candidates if candidate.cut is not None]
    return list(dict.fromkeys([*(stage.name for stage in step.stages), *cuts]))


def _last_stage(stage_probs: Grid, n_candidates: int) -> list[float]:
    """The share that the last stage left to each candidate: with a stage on, their final probabilities."""
    return list(memoryview(stage_probs.data).cast("f")[-n_candidates:]) if n_candidates else []


class Shape(msgspec.Struct, frozen=True):
    """The sizes and names that every step of a trace has in common."""

    n_layers: int
    n_heads: int
    rows_form: str = FORM
    """The quantisation of its attention rows."""


Known = Mapping[str, Any]


def restored(run: int, index: int, row: Known, shape: Shape, token_bytes: Callable[[int], bytes]) -> Step:
    """The step of these columns of `steps` and `arrays`. What is missing or of another kind is unknown."""
    layers = shape.n_layers
    names = [name if name.isidentifier() else "unknown" for name in of(str, row.get("stages"), "").split(",") if name]
    results = _numbers(row, "stage_results")
    n_stages = min(len(results) // len(RESULTS), len(names))
    stages = tuple(
        Stage(names[i], _count(results[3 * i]), results[3 * i + 1], results[3 * i + 2]) for i in range(n_stages)
    )
    candidates = _candidates(row, names, token_bytes)
    keys = [None if n < 0 else n for n in _numbers(row, "visible_keys")]
    scalars = {field: _number(row.get(name), field) for field, name in SCALARS.items()}
    state = of(str, row.get("state"), "")
    return Step(
        run=run,
        index=index,
        position=of(int, row.get("position"), index),
        token_id=of(int, row.get("token_id"), 0),
        token_bytes=of(bytes, row.get("bytes"), b""),
        text=of(str, row.get("text"), ""),
        numbers=tuple(_known(row.get(metric.column)) for metric in COMPUTED),
        **scalars,
        candidates=candidates,
        stages=stages,
        stage_probs=_grid(row, "stage_probs", (n_stages, 1 + len(candidates))),
        head_entropy=_grid(row, "head_entropy_nats", (layers, shape.n_heads)),
        head_varentropy=_grid(row, "head_varentropy_nats2", (layers, shape.n_heads)),
        attention=_grid(row, "attention", (layers, len(ATTENTION))),
        visible_keys=tuple(keys * layers if len(keys) == 1 else keys if len(keys) == layers else [None] * layers),
        blocks=_grid(row, "blocks", (layers, len(BLOCKS))),
        strays=strays(row.get("stray_blocks"), layers),
        state=state if state in STATES else "Unknown",
        decision=_decision(row.get("decision")),
        watched=_watched(_numbers(row, "watched")),
        shadow=_shadow(_numbers(row, "shadow"), token_bytes),
        bounds=bounds(row.get("bounds")),
        attention_rows=_attention_rows(row.get("attention_rows"), shape.rows_form),
        lens_rows=lens_rows.unpacked(row.get("lens_rows"), layers, token_bytes),
    )


def shape_of(header: Mapping[str, Any], card: ModelCard | None) -> Shape:
    """The sizes of a trace: those of its model, or where that is damaged those that its header tells."""
    form = _rows_form(header)
    if card is not None:
        return Shape(card.n_layers, card.n_heads, form)
    try:
        layers, heads = header["arrays"]["head_entropy_nats"]["shape"]
        if min(layers, heads) > 0 and layers * heads <= MAX_GRID_NUMBERS:
            return Shape(int(layers), int(heads), form)
    except (KeyError, TypeError, ValueError):
        pass
    return Shape(0, 0)


def _rows_form(header: Mapping[str, Any]) -> str:
    """The quantisation of the attention rows of a trace, by the name in its header."""
    try:
        return str(header["arrays"]["attention_rows"]["dtype"])[:64]
    except (KeyError, TypeError):
        return FORM  # there are none, or the header is damaged


def _attention_rows(data: object, form: str) -> QuantisedRows | None:
    return QuantisedRows(data, form) if isinstance(data, bytes) and data else None


def _shadow(numbers: Sequence[float], token_bytes: Callable[[int], bytes]) -> Shadow | None:
    if len(numbers) < len(MIND):
        return None
    known = dict(zip(MIND, numbers, strict=False))
    rank, top, would = (_count(known.pop(name)) for name in ("rank", "top_id", "would_id"))
    logprobs = tuple(numbers[len(MIND) :])
    return Shadow(
        **known, rank=rank, top_id=top, top_bytes=token_bytes(top), would_id=would, would_bytes=token_bytes(would),
        logprobs=logprobs,
    )  # fmt: skip


def _watched(numbers: Sequence[float]) -> tuple[Watched, ...]:
    rows = zip(*(numbers[at :: len(FOLLOWED)] for at in range(len(FOLLOWED))), strict=False)
    return tuple(Watched(_count(token_id), logprob, _count(rank), logit) for token_id, logprob, rank, logit in rows)


def _candidates(row: Known, names: list[str], token_bytes: Callable[[int], bytes]) -> tuple[Candidate, ...]:
    ids, logprobs = _numbers(row, "candidate_ids"), _numbers(row, "candidate_logprobs_nats")
    cuts = _numbers(row, "candidate_cut")
    final: Sequence[float] = _numbers(row, "candidate_final_probs")
    if row.get("candidate_final_probs") is None:
        final = _numbers(row, "stage_probs")[-len(ids) :] if len(ids) else ()
    if not len(ids) == len(logprobs) == len(cuts) == len(final):
        return ()
    return tuple(
        Candidate(i, token_bytes(i), logprob, prob, names[cut] if 0 <= cut < len(names) else None)
        for i, logprob, cut, prob in zip(ids, logprobs, cuts, final, strict=True)
    )


def strays(text: object, n_layers: int) -> tuple[int, ...]:
    """The blocks that the column `stray_blocks` names."""
    if not isinstance(text, str):
        return ()
    try:
        blocks = msgspec.json.decode(text, type=tuple[int, ...])
    except msgspec.MsgspecError:
        return ()
    return tuple(block for block in blocks if 1 <= block <= n_layers)


def bounds_by_column(step: Step) -> dict[str, tuple[float, float]]:
    """(low, high) of every number that has bounds, by the name that files have of it."""
    known = {one.name: (one.low, one.high) for one in step.bounds if one.low <= one.high}
    finite = {name: pair for name, pair in known.items() if all(map(math.isfinite, pair))}
    return {BY_FIELD[name].column: pair for name, pair in finite.items() if name in BY_FIELD}


def bounds_column(step: Step) -> str | None:
    """The same as JSON; None where there are none."""
    return json.dumps(bounds_by_column(step)) if step.bounds else None


def bounds(text: object) -> tuple[Bounds, ...]:
    """The bounds that the column `bounds` tells of; those of a number that we do not know are passed over."""
    if not isinstance(text, str):
        return ()
    try:
        pairs = msgspec.json.decode(text, type=dict[str, tuple[float, float]])
    except msgspec.MsgspecError:
        return ()
    fields = {metric.column: metric.field for metric in METRICS}
    return tuple(
        Bounds(fields[name], low, high) for name, (low, high) in pairs.items() if name in fields and low <= high
    )


def _decision_json(decision: Decision) -> str:
    """JSON, which has no NaN and no infinity: the one is null, the other a string."""
    fields = msgspec.to_builtins(decision)
    fields["saw"] = {
        name: value if math.isfinite(value) else None if math.isnan(value) else str(value)
        for name, value in decision.saw.items()
    }
    return json.dumps(fields)


def _decision(text: object) -> Decision | None:
    if not isinstance(text, str):
        return None
    try:
        fields = json.loads(text)
        fields["saw"] = {name: math.nan if value is None else float(value) for name, value in fields["saw"].items()}
        return msgspec.convert(fields, Decision)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError):
        return None


def _grid(row: Known, name: str, shape: tuple[int, int]) -> Grid:
    data = row.get(name)
    size = shape[0] * shape[1]
    if not isinstance(data, bytes) or len(data) != 4 * size:
        data = packed("f", [math.nan]) * size
    return Grid(shape, data)


def _numbers(row: Known, name: str) -> array[Any]:
    data = row.get(name)
    numbers: array[Any] = array(CODES[BLOBS[name]])
    if isinstance(data, bytes) and len(data) % numbers.itemsize == 0:
        numbers.frombytes(data)
    return numbers


def _known(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _number(value: object, field: str) -> Any:
    if isinstance(value, int | float):
        return float(value)
    return None if field in OPTIONAL else math.nan


def _count(value: float) -> int:
    return int(value) if math.isfinite(value) else 0


def of(kind: type, value: object, otherwise: Any) -> Any:
    """The value if it is of that kind."""
    return value if isinstance(value, kind) else otherwise
