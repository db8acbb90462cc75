"""CSV: every token a row, and no cell that a spreadsheet would run."""

import csv
import io

import exports
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from scripted import started, step

from tui_entropy.export import csv as csv_
from tui_entropy.export.columns import COLUMNS


@pytest.fixture
def rows(tmp_path):
    made = exports.exported(csv_.write, exports.trace(tmp_path / "run.tui"))
    return list(csv.DictReader(io.StringIO(made.decode("utf-8-sig"), newline="")))


def test_prompt_and_text_are_rows_that_say_which_they_are(rows):
    assert list(rows[0]) == list(COLUMNS)
    assert [row["part"] for row in rows] == ["prompt"] * 3 + ["written"] * len(exports.WORDS)
    assert [row["step"] for row in rows][2:5] == ["", "1", "2"]
    assert [row["position"] for row in rows] == [str(n) for n in range(9)]


def test_numbers_stand_under_their_unit_and_what_is_unknown_is_empty(rows):
    assert float(rows[3]["entropy_nats"]) == step(0).entropy and float(rows[3]["at_seconds"]) == step(0).at
    assert rows[3]["rank"] == "1" and rows[3]["entropy_z"] == "" and rows[3]["mirostat_mu_bits"] == ""
    assert rows[0]["entropy_nats"] == "" and float(rows[1]["entropy_nats"]) == 0.125
    assert rows[1]["final_entropy_nats"] == "" and rows[1]["state"] == ""


def test_what_was_changed_stands_where_it_acts(rows):
    assert [row["changed"] for row in rows if row["changed"]] == [rows[4]["changed"]] == ["T 0.7→1.2"]


def test_each_row_of_a_branch_says_which_run_wrote_it(tmp_path):
    branch = [replace(started(2), parent=1, shared=4), step(4, " a", 2), step(5, " b", 2)]
    made = exports.exported(csv_.write, exports.trace(tmp_path / "a.tui", exports.events(), branch))
    rows = list(csv.DictReader(io.StringIO(made.decode("utf-8-sig"), newline="")))
    assert [row["run"] for row in rows] == ["1"] * 7 + ["2"] * 2 and rows[-1]["text"] == " b"
    assert rows[7]["changed"] == "branch of run 1"


def test_texts_and_bytes_come_back_whole(rows):
    written = rows[3:]
    assert [row["text"] for row in written] == [" Paris", "'=1+1", "'\n", " is", "''s", " 東"]
    assert tuple(bytes.fromhex(row["bytes"][1:]).decode() for row in written) == exports.WORDS


@given(st.text(st.sampled_from("=+-@'\t\r\n ＝＠a1") | st.characters(exclude_categories=["Cs"]), max_size=8))
def test_no_text_begins_as_a_formula_and_one_apostrophe_less_is_the_text(text):
    cell = csv_.cell(text)
    assert cell.lstrip()[:1] not in tuple("=+-@") and cell[:1] not in tuple("\t\r\n")
    assert (cell[1:] if cell.startswith("'") else cell) == text
