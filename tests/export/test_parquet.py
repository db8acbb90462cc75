"""Parquet: typed columns, lists within a token, nothing made up."""

import io
import json
import math

import exports
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from scripted import started, step

from tui_entropy.export import parquet
from tui_entropy.export.columns import COLUMNS
from tui_entropy.records.arrays import Grid


def read(path):
    return pq.read_table(io.BytesIO(exports.exported(parquet.write, path)))


def test_the_table_has_the_columns_of_the_csv_and_the_lists_of_each_step(tmp_path):
    table = read(exports.trace(tmp_path / "run.tui"))
    assert table.column_names[: len(COLUMNS)] == list(COLUMNS)
    prompt, written = table.to_pylist()[2], table.to_pylist()[3]
    assert prompt["candidates"] is None and prompt["part"] == "prompt" and prompt["rank"] == 0
    assert written["bytes"] == b" Paris" and written["rank"] == 1 and written["entropy_z"] is None
    assert written["candidates"][1] == {
        "token_id": 7,
        "bytes": b" \xff",
        "logprob_nats": pytest.approx(math.log(0.1)),
        "final_prob": 0.0,
        "cut": "top_p",
    }
    assert [stage["survivors"] for stage in written["stages"]] == [40, 1]
    assert written["head_entropy_nats"] == step(0).head_entropy.rows()
    assert json.loads(table.schema.metadata[b"tui_entropy"])["header"]["model"] == "tiny"


def test_a_head_without_attention_is_null(tmp_path):
    blind = replace(step(0), head_entropy=Grid.of([[1.0, 1.0], [1.0, 1.0], [math.nan] * 2]))
    table = read(exports.trace(tmp_path / "run.tui", [started(), blind]))
    assert table.to_pylist()[-1]["head_entropy_nats"] == [[1.0, 1.0], [1.0, 1.0], [None, None]]


def test_more_rows_than_are_held_at_once_are_all_there(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP", 4)
    assert read(exports.trace(tmp_path / "run.tui"))["position"].to_pylist() == list(range(9))
