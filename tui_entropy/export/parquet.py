"""Parquet: the table of the CSV, with candidates, stages and heads of each written token as nested columns."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any, BinaryIO

from tui_entropy.export.columns import COLUMNS, rows
from tui_entropy.export.recorded_run import Recording
from tui_entropy.records.arrays import Grid
from tui_entropy.records.step import Step
from tui_entropy.trace import jsonl

GROUP = 1000
"""Rows held in memory at once."""


def write(recording: Recording, file: BinaryIO) -> None:
    """Unknown is null. The header of the JSON lines is in the file's metadata. Raises ModuleNotFoundError."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = _schema().with_metadata({"tui_entropy": jsonl.header(recording.card, recording.started)})
    every = (dict(zip(COLUMNS, row, strict=True)) | _nested(step) for step, row in rows(recording))
    with ParquetWriter(file, schema, compression="zstd") as out:
        while group := list(islice(every, GROUP)):
            out.write_table(pyarrow.Table.from_pylist(group, schema))


def _schema() -> Any:
    import pyarrow as pa

    whole, number, text, data = pa.int64(), pa.float64(), pa.string(), pa.binary()
    plain = {str: text, bytes: data, int: whole, float: number}
    candidate = {"token_id": whole, "bytes": data, "logprob_nats": number, "final_prob": number, "cut": text}
    stage = {"name": text, "survivors": whole, "mass": number, "entropy_nats": number}
    heads = pa.list_(pa.list_(pa.float32()))
    return pa.schema(
        [
            *((name, plain[kind]) for name, kind in COLUMNS.items()),
            ("candidates", pa.list_(pa.struct(candidate.items()))),
            ("stages", pa.list_(pa.struct(stage.items()))),
            ("head_entropy_nats", heads),
            ("head_varentropy_nats2", heads),
        ]
    )


def _nested(step: Step | None) -> dict[str, Any]:
    if step is None:
        return {}
    return {
        "candidates": [
            {
                "token_id": candidate.token_id,
                "bytes": candidate.token_bytes,
                "logprob_nats": candidate.logprob,
                "final_prob": candidate.final_prob,
                "cut": candidate.cut,
            }
            for candidate in step.candidates
        ],
        "stages": [
            {
                "name": stage.name,
                "survivors": stage.survivors,
                "mass": stage.mass,
                "entropy_nats": stage.entropy,
            }
            for stage in step.stages
        ],
        "head_entropy_nats": _heads(step.head_entropy),
        "head_varentropy_nats2": _heads(step.head_varentropy),
    }


def _heads(grid: Grid) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in grid.rows()]
