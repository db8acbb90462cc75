"""NumPy's .npz: an array per number, its first axis the written tokens; those of the prompt are prompt_... No pickle.

head_entropy_nats and head_varentropy_nats2 are (steps, layers, heads), attention_... and block_... (steps, layers),
candidate_... (steps, candidates), all others (steps,); run is the one that wrote a step. A number of which
somewhere no more than bounds is known has an array more, ..._bounds (steps, 2): the least and the greatest that it
may be. Unknown is NaN, or -1 where a number is whole. A cut is a place in `stages`, -1 where the candidate could be
drawn: those of the order, and behind them what else cut a candidate, such as a ban. Token i is bytes[byte_ends[i -
1]:byte_ends[i]], from 0 for the first.

What probes answered is probe_NAME_POSITION_PANEL_..., panels from 0: title and unit; values of a grid, what its rows
and columns are (words, or positions of the text) and tokens in its cells; values and rows of bars and tinted texts;
columns of a table by name, column_0, ... each; nodes (row, column, share) and edges (from, to, share or weight) of
what flows; the text of a note. probe_NAME_POSITION has the options of the question as JSON.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO

from tui_entropy.export.recorded_run import Recording, RunRecord
from tui_entropy.metrics.registry import ATTENTION_COLUMNS, BLOCK_COLUMNS, METRICS
from tui_entropy.records.probes.panels import Axis, Bars, Cell, Flow, Graph, Heatmap, Note, Table, TintedText, Tokens
from tui_entropy.records.step import Candidate, PromptToken, Step
from tui_entropy.stages.registry import ORDERS
from tui_entropy.state.step_store import StepStore
from tui_entropy.trace import jsonl

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = dict[str, npt.NDArray[Any]]

NOBODY = Candidate(-1, b"", math.nan, math.nan)
"""Where a step has fewer candidates than another."""


def write(recording: Recording, file: BinaryIO) -> None:
    import numpy as np

    np.savez_compressed(file, allow_pickle=False, **arrays(recording))


def arrays(record: RunRecord) -> Arrays:
    """All of them, by name. A run without steps has those of its prompt alone."""
    import numpy as np

    header = jsonl.header(record.card, record.started).decode()
    stages = list(ORDERS["hf"])
    made = {"header": np.array(header), **_prompt(record), **_written(record, stages)}
    return made | {"stages": np.array(stages)} | _answers(record)


def _prompt(recording: RunRecord) -> Arrays:
    scores = recording.log.prompt_scores
    named = {metric.column: list(scores[metric.prompt]) for metric in METRICS if metric.prompt in scores}
    return _arrays({**_columns(map(_token, recording.started.prompt_tokens)), **named}, "prompt_")


def _written(recording: RunRecord, stages: list[str]) -> Arrays:
    """stages: names, to which those are added that turn up."""
    log = recording.log
    width = max(knobs.n_candidates for _, knobs in log.knob_changes)
    series = {one.column: [_or_nan(value) for value in log.steps.values(one)] for one in METRICS}
    numbers = _columns(_numbers(step, width, stages) for step in log.steps)
    return _arrays({**numbers, **series, **_bounds(log.steps), "run": recording.writers})


def _bounds(steps: StepStore) -> dict[str, list[tuple[float, float]]]:
    """(steps, 2) of every number that has bounds anywhere: the least and the greatest that it may be."""
    found: dict[str, list[tuple[float, float]]] = {}
    for metric in METRICS:
        if known := steps.bounds(metric, 0, len(steps)):
            found[f"{metric.column}_bounds"] = [known.get(at, (math.nan, math.nan)) for at in range(len(steps))]
    return found


def _numbers(step: Step, width: int, stages: list[str]) -> dict[str, Any]:
    candidates = (*step.candidates, *[NOBODY] * width)[:width]
    grids = {
        name: grid.numpy()[:, at]
        for names, grid in ((ATTENTION_COLUMNS, step.attention), (BLOCK_COLUMNS, step.blocks))
        for at, name in enumerate(names)
    }
    return {
        **_token(step),
        "position": step.position,
        "final_prob": step.final_prob,
        "mirostat_mu_bits": _or_nan(step.mirostat_mu),
        "at_seconds": step.at,
        "visible_keys": [-1 if keys is None else keys for keys in step.visible_keys],
        "head_entropy_nats": step.head_entropy.numpy(),
        "head_varentropy_nats2": step.head_varentropy.numpy(),
        **grids,
        "candidate_id": [one.token_id for one in candidates],
        "candidate_logprob_nats": [one.logprob for one in candidates],
        "candidate_final_prob": [one.final_prob for one in candidates],
        "candidate_cut": [_cut(one, stages) for one in candidates],
    }


def _answers(record: RunRecord) -> Arrays:
    import msgspec
    import numpy as np

    made: Arrays = {}
    for (name, position), answer in sorted(record.log.run.answers.items()):
        at = f"probe_{name}_{position}"
        made[at] = np.array(msgspec.json.encode(answer.options).decode())
        for n, panel in enumerate(answer.panels):
            if not isinstance(panel, Step):
                parts = {"title": panel.title, "unit": getattr(panel, "unit", ""), **_panel(panel)}
                made |= {f"{at}_{n}_{part}": np.asarray(values) for part, values in parts.items()}
    return made


def _panel(panel: Heatmap | Bars | TintedText | Table | Graph | Flow | Note) -> dict[str, Any]:
    match panel:
        case Heatmap():
            axes = {"rows": _places(panel.rows), "columns": _places(panel.columns)}
            return axes | {
                "values": panel.values.numpy(),
                "tokens": _column(list(panel.tokens)) if panel.tokens else [],
            }
        case Bars():
            return {"values": list(map(_or_nan, panel.values)), "rows": _places(panel.axis)}
        case TintedText():
            return {"values": list(map(_or_nan, panel.values)), "rows": panel.positions}
        case Table():
            cells = [[row[n] for row in panel.rows] for n in range(len(panel.columns))]
            return {"columns": [one.name for one in panel.columns]} | {
                f"column_{n}": _column(column) for n, column in enumerate(cells)
            }
        case Graph():
            edges = [(edge.source, edge.target, edge.weight) for edge in panel.edges]
            return {"rows": [node.label for node in panel.nodes], "edges": _of_three(edges)}
        case Flow():
            edges = [(edge.above, edge.below, edge.share) for edge in panel.edges]
            nodes = [(node.row, node.column, node.share) for node in panel.nodes]
            axes = {"rows": _places(panel.rows), "columns": _places(panel.columns)}
            return axes | {"nodes": _of_three(nodes), "edges": _of_three(edges)}
        case Note():
            return {"text": panel.text}


def _places(axis: Axis) -> tuple[str, ...] | tuple[int, ...]:
    return axis.labels or axis.positions


def _of_three(rows: list[tuple[int, int, float]]) -> npt.NDArray[Any]:
    import numpy as np

    return np.asarray(rows, dtype=np.float64).reshape(-1, 3)


def _column(cells: list[Cell]) -> list[float] | list[str]:
    """Numbers, NaN where one is unknown; or words."""
    if all(cell is None or isinstance(cell, int | float) for cell in cells):
        return [math.nan if cell is None else float(cell) for cell in cells]  # type: ignore[arg-type]
    spelled = (one.token_bytes.decode("utf-8", "replace") if isinstance(one, Tokens) else one for one in cells)
    return ["" if one is None else str(one) for one in spelled]


def _cut(candidate: Candidate, stages: list[str]) -> int:
    if candidate.cut is None:
        return -1
    if candidate.cut not in stages:
        stages.append(candidate.cut)
    return stages.index(candidate.cut)


def _token(token: PromptToken | Step) -> dict[str, Any]:
    return {"token_id": token.token_id, "bytes": token.token_bytes}


def _columns(rows: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            columns[name].append(value)
    return columns


def _arrays(columns: dict[str, list[Any]], prefix: str = "") -> Arrays:
    import numpy as np

    data = columns.pop("bytes", [])
    flat = {
        "bytes": np.frombuffer(b"".join(data), dtype=np.uint8),
        "byte_ends": np.cumsum([len(one) for one in data], dtype=np.int64),
    }
    return {f"{prefix}{name}": np.asarray(values) for name, values in (columns | flat).items()}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
