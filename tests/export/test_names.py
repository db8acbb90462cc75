"""Every series has one name and one unit, in whatever it is written as; breakpoints understand that name too."""

from __future__ import annotations

import csv
import io
import json
import sqlite3

import exports
import numpy as np
import pytest
from places import ROOT
from pyarrow import parquet

from tui_entropy.breakpoints.parser import parse
from tui_entropy.export import csv as csv_
from tui_entropy.export import inif, jsonl_lines, npz
from tui_entropy.export import parquet as parquet_export
from tui_entropy.metrics.registry import ATTENTION_COLUMNS, BLOCK_COLUMNS, BY_NAME, METRICS, SCORES
from tui_entropy.records.step import ATTENTION, BLOCKS
from tui_entropy.trace import jsonl, schema

ENDS = {"nats": "_nats", "nats²": "_nats2", "logits": "_logits", "s": "_seconds", "L2": "_l2", "sd": "_z", "": ""}
"""How the name of a number of each unit ends."""
DOCUMENTED = (ROOT / "docs" / "trace.md").read_text()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The names of a written token and of one of the prompt, by what they are written as."""
    path = exports.trace(tmp_path_factory.mktemp("traces") / "run.tui")
    table = list(csv.reader(io.StringIO(exports.exported(csv_.write, path).decode("utf-8-sig"))))
    every = [json.loads(line) for line in exports.exported(jsonl_lines.write, path).splitlines()]
    found = np.load(io.BytesIO(exports.exported(npz.write, path)))
    document = json.loads(exports.exported(inif.write, path))
    first = next(line["prompt"] for line in every if "prompt" in line)
    columns = parquet.read_schema(io.BytesIO(exports.exported(parquet_export.write, path))).names
    with sqlite3.connect(path) as db:
        tables = {
            name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in ("tokens", "prompt_tokens")
        }
    return {
        "trace": (tables["tokens"], tables["prompt_tokens"]),
        "csv": (table[0], table[0]),
        "jsonl": (list(next(line for line in every if "index" in line)), list(first)),
        "npz": (list(found), [name.removeprefix("prompt_") for name in found if name.startswith("prompt_")]),
        "inif": (list(document["samples"][0]["tokens"][-1]), list(document["samples"][0]["tokens"][1])),
        "parquet": (columns, columns),
    }


SHADOWED = ("kl", "entropy change", "surprisal change", "flip", "by lane")
OF_LENS = ("commitment layer", "lens entropy", "lens kl")
WRITINGS = ["trace", "csv", "jsonl", "npz", "inif", "parquet"]


@pytest.mark.parametrize("writing", WRITINGS)
def test_every_series_has_the_same_name_in_it(written, writing):
    steps, prompt = written[writing]
    absent = (
        (*SHADOWED, *OF_LENS, "entropy z", "attention z") if writing == "inif" else ()
    )  # there unknown is left out
    assert {one.column for one in METRICS if one.name not in absent} <= set(steps)
    assert {BY_NAME[score.replace("_", " ")].column for score in SCORES} <= set(prompt)


@pytest.mark.parametrize("writing", WRITINGS)
def test_no_number_is_there_under_another_name(written, writing):
    """The name of a series without its unit, or with another one, is nobody's."""
    plain = {one.name.replace(" ", "_"): one.column for one in METRICS}
    for name in written[writing][0]:
        stem = next(
            (stem for stem in (name, *(name.removesuffix(end) for end in ENDS.values())) if stem in plain), None
        )
        tables = ("head_entropy_nats", "head_varentropy_nats2")
        assert stem is None or name in (plain[stem], *tables), f"{name} is {plain[stem]} elsewhere"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_its_name_ends_in_its_unit_which_the_header_and_the_documentation_say(metric):
    unit = metric.unit(bits=False)
    assert metric.column.endswith(ENDS[unit])
    assert jsonl.UNITS[metric.column] == unit or not unit
    assert f"`{metric.column}`" in DOCUMENTED
    assert metric.column in schema.STEP


@pytest.mark.parametrize("writing", ["jsonl", "npz"])
def test_what_every_layer_has_is_named_alike_with_its_unit(written, writing):
    assert {*ATTENTION_COLUMNS, *BLOCK_COLUMNS} <= set(written[writing][0])
    assert [name.split("_")[1] for name in ATTENTION_COLUMNS] == list(ATTENTION)
    assert [name.split("_")[1] for name in BLOCK_COLUMNS] == list(BLOCKS)
    assert {*ATTENTION_COLUMNS, *BLOCK_COLUMNS} <= jsonl.UNITS.keys()
    assert not {"attention_spread", "attention_interaction", "block_norm"} & set(written[writing][0])


def test_a_unit_is_told_of_every_number_of_a_line(written):
    ids = {"index", "position", "token_id", "text", "bytes", "state", "visible_keys", "stray_blocks"}
    parts = {"candidates", "stages", "watched", "shadow"}
    assert set(written["jsonl"][0]) - ids - parts <= jsonl.UNITS.keys()


@pytest.mark.parametrize("metric", [one for one in METRICS if one.kind == "logits"], ids=lambda metric: metric.name)
def test_a_breakpoint_may_name_it_as_files_do(metric):
    name = metric.name.replace(" ", "_")
    assert parse(f"{metric.column} > 2").canonical() == parse(f"{name} > 2").canonical()
