"""A metric in a file of its own is found wherever metrics are told of, and nothing else was touched for it."""

from __future__ import annotations

import json

import one_more
import pytest
import small
from one_more import lines_of, steps_of

COLLISION = '''
"""How much two tokens share what the model believes: the probability that two draws are the same."""
from tui_entropy.metrics import model
from tui_entropy.metrics.metric import Metric, exactly

model.MODEL = (*model.MODEL, Metric(
    "collision", "share", "model", 1.0, "The probability that two draws give the same token.",
    compute=lambda at: at.logp.exp().square().sum(-1), on_prompt=True,
    check=lambda at: exactly(float((at.p * at.p).sum()), 1.0),
))
'''


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(a folder with a trace of a small model and what was told of it, the JSON lines of the run)."""
    folder = tmp_path_factory.mktemp("more")
    small.saved(folder / "model")
    raw = "--model ./model --raw -p hello --seed 1"
    codes = one_more.said(
        folder,
        COLLISION,
        f"run --headless --jsonl {raw} --max-tokens 6 --trace a.tui run.jsonl",
        f"run --headless {raw} --no-trace --break collision>0 stopped",
        "doctor --json --model ./model doctor.json",
        "export a.tui --to jsonl -o - again.jsonl",
        "export a.tui --to csv -o a.csv csv",
        "export a.tui --to html -o a.html html",
        "replay a.tui --snapshot numbers.txt@120x50:page=numbers snapshot",
    )
    assert codes == [0, 4, 0, 0, 0, 0, 0]
    return folder, lines_of(folder / "run.jsonl")


def test_json_lines_have_it_of_every_step_and_token_of_the_prompt_with_its_unit(written):
    _, lines = written
    assert len(steps_of(lines)) == 6 and all(0 < step["collision"] <= 1 for step in steps_of(lines))
    (prompt,) = [line["prompt"] for line in lines if "prompt" in line]
    assert len(prompt["collision"]) == len(prompt["entropy_nats"]) > 1
    assert lines[0]["header"]["units"]["collision"] == "share"


def test_a_trace_has_a_column_of_it_which_every_export_tells(written):
    folder, lines = written
    again = [step["collision"] for step in steps_of(lines_of(folder / "again.jsonl"))]
    assert again == pytest.approx([step["collision"] for step in steps_of(lines)])
    assert "collision" in (folder / "a.csv").read_text().splitlines()[0].split(",")
    assert "The probability that two draws give the same token." in (folder / "a.html").read_text()


def test_a_program_without_it_reads_the_trace_and_the_other_way_round(written, tmp_path, commands):
    folder, lines = written
    done = commands.run("export", str(folder / "a.tui"), "--to", "jsonl", "-o", str(tmp_path / "less.jsonl"))
    less = steps_of(lines_of(tmp_path / "less.jsonl"))
    assert done.code == 0 and [step["rank"] for step in less] == [step["rank"] for step in steps_of(lines)]
    assert "collision" not in less[0]
    options = ["--raw", "-p", "hello", "--max-tokens", "3", "--trace", str(tmp_path / "b.tui")]
    assert commands.run("run", "--headless", "--model", str(folder / "model"), *options).code == 0
    assert one_more.said(tmp_path, COLLISION, "export b.tui --to jsonl -o more.jsonl nothing") == [0]
    more = steps_of(lines_of(tmp_path / "more.jsonl"))
    assert len(more) == 3 and all(step["collision"] is None and step["entropy_nats"] >= 0 for step in more)


def test_the_page_of_numbers_shows_it(written):
    folder, _ = written
    (row,) = [row for row in (folder / "numbers.txt").read_text().splitlines() if " collision " in row]
    assert " model " in row


def test_doctor_has_it_a_second_time_of_steps_and_of_the_prompt(written):
    folder, _ = written
    checks = {check["name"]: check for check in json.loads((folder / "doctor.json").read_text())["checks"]}
    assert [checks[name]["verdict"] for name in ("collision", "prompt collision")] == ["pass", "pass"]


def test_the_tables_of_the_documents_have_a_row_for_it(tmp_path):
    done = one_more.program(tmp_path, COLLISION, one_more.TABLES, "numbers", "columns", "scores")
    assert "| **collision** | model | none | The probability that two draws" in done.stdout, done.stderr
    assert "| `collision` | share | model | collision | The probability that two draws" in done.stdout
    assert "`uniform_kl_nats`, `collision`" in done.stdout
