"""A stage in a file of its own is found wherever stages are told of, and nothing else was touched for it."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import one_more
import pytest
import small
from one_more import lines_of, steps_of
from places import ROOT

TOY = '''
"""What is left is near to the best."""
from tui_entropy.stages import truncation
from tui_entropy.stages.stage import Knob, Stage

truncation.TRUNCATION = (*truncation.TRUNCATION, Stage(
    (Knob("toy", "toy-nats", "Keeps scores within so many nats of the best. 0 is off.", 0.0, 0.0, high=100,
          rungs=(0.0, 1.0, 2.0), cost=0.3),),
    places=(6.5, 9.5, 11.5), in_graph=True, example={"toy": 1.0},
    keep=lambda row, past, reach: row.scores >= row.scores.max() - reach,
    check=lambda row, past, reach: (
        row.scores.max() - row.scores <= reach, row.nearest(row.scores, row.scores.max() - reach)
    ),
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
        TOY,
        f"run --headless --jsonl {raw} --toy 0.02 --order toy,min_p --max-tokens 6 --trace a.tui run.jsonl",
        "doctor --json --model ./model doctor.json",
        "export a.tui --to jsonl -o - again.jsonl",
        "export a.tui --to npz -o a.npz npz",
        "export a.tui --to html -o a.html html",
        "replay a.tui --snapshot waterfall.txt@150x50:page=waterfall --snapshot main.txt@150x50 snapshot",
        "run --help help.txt",
    )
    assert codes == [0, 0, 0, 0, 0, 0, 0]
    return folder, lines_of(folder / "run.jsonl")


def test_json_lines_have_its_knob_its_place_in_the_order_and_what_it_left(written):
    folder, lines = written
    knobs = lines[0]["header"]["knobs"]
    assert knobs["toy"] == 0.02 and knobs["order"][:2] == ["toy", "min_p"] and len(knobs["order"]) == 13
    assert len(steps_of(lines)) == 6
    for step in steps_of(lines):
        (stage,) = [stage for stage in step["stages"] if stage["name"] == "toy"]
        cut = [one for one in step["candidates"] if one["cut"] == "toy"]
        assert step["stages"][0] == stage and 0 < stage["mass"] < 1 and cut
        assert all(one["final_prob"] == 0 for one in cut)
    again = steps_of(lines_of(folder / "again.jsonl"))
    assert [step["stages"] for step in again] == [step["stages"] for step in steps_of(lines)]


def test_exports_name_it(written):
    folder, _ = written
    with np.load(folder / "a.npz", allow_pickle=False) as found:
        assert (found["candidate_cut"] == found["stages"].tolist().index("toy")).any()
    assert "toy-nats" in (folder / "a.html").read_text()


def test_the_screen_has_it_on_the_waterfall_in_the_order_and_on_the_knob_strip(written):
    shown = (written[0] / "waterfall.txt").read_text()
    assert "1 toy-nats 0.02" in shown and "removed by toy-nats" in shown  # a row of the table, and what it removed
    assert "order from the next token on: custom" in shown and "1 toy-nats  2 min-p" in shown
    assert "toy-nats 0.02" in (written[0] / "main.txt").read_text()


def test_the_command_line_offers_it_with_what_it_does_and_costs(written):
    said = " ".join((written[0] / "help.txt").read_text().replace("│", " ").split())
    assert "--toy" in said and "Keeps scores within so many nats of the best. 0 is off. Costs about 0.3 ms" in said


def test_a_value_that_it_can_not_have_is_answered_in_a_sentence(tmp_path):
    code = """
        from tui_entropy.__main__ import main
        sys.argv = ["tui-entropy", "run", "--headless", "-p", "x", "--toy", "101"]
        main()
    """
    done = one_more.program(tmp_path, TOY, code)
    assert done.returncode == 2
    assert "toy is 101.0 but must be between 0 and 100; 0 switches it off" in " ".join(done.stderr.split())


def test_doctor_has_a_text_written_under_it_and_has_it_a_second_time(written):
    checks = {check["name"]: check for check in json.loads((written[0] / "doctor.json").read_text())["checks"]}
    row = checks["stage toy"]
    assert row["verdict"] == "pass" and 0 < row["worst"] < row["bound"] and row["proves"][0] == "stage toy"
    assert checks["stages that act"]["verdict"] == "pass"


WRONG = TOY.replace("row.scores.max() - reach,\n", "row.scores.max() - reach / 2,\n", 1)


def test_doctor_sees_where_its_two_ways_differ(tmp_path):
    assert WRONG != TOY
    small.saved(tmp_path / "model")
    assert one_more.said(tmp_path, WRONG, "doctor --json --model ./model doctor.json") == [1]
    checks = json.loads((tmp_path / "doctor.json").read_text())["checks"]
    assert "fail" in [check["verdict"] for check in checks if check["name"] == "stage toy"]


KNOBS = """
    from msgspec import UNSET, json
    from msgspec.structs import replace
    import made
    from tui_entropy.records.events import KnobsChanged
    from tui_entropy.records.knobs import KNOBS, is_off
    from tui_entropy.records.sampling import Knobs
    from tui_entropy.stages.registry import ORDERS
    from tui_entropy.state.run_view import knob_changes
    from tui_entropy.ui.drawing.paint import Paint
    from tui_entropy.ui.keys import knob_steps
    from tui_entropy.ui.panes.hints import Hints
    from tui_entropy.ui.panes.knobs import KnobStrip
    from tui_entropy.ui.views.frame import Frame

    assert ORDERS["hf"][5:8] == ("top_k", "toy", "top_p") and ORDERS["vllm"][-2:] == ("toy", "mirostat_tau")
    assert ORDERS["llama.cpp"][-4:] == ("toy", "xtc_probability", "temperature", "mirostat_tau")
    up = knob_steps.adjusted(Knobs(), "toy", 1)
    assert up.toy == 1.0 and knob_steps.reset(up, "toy").toy == 0.0 and is_off(Knobs(), "toy")
    names = [knob.name for knob in KNOBS]
    assert knob_steps.beside(Knobs(), names[names.index("toy") - 1], 1) == "toy"
    assert knob_changes(Knobs(), up) == ["toy-nats 0→1"]
    frame = Frame(made.log(2), Paint(), knobs=up, knob="toy", place="knobs")
    assert "toy-nats off→1.00" in " ".join(line.text for line in KnobStrip().draw(frame, 400, 2))
    assert "Keeps scores within so many nats" in Hints().draw(frame, 140, 1)[0].text
    changed = KnobsChanged(0, 3, up)
    assert json.decode(json.encode(changed), type=KnobsChanged) == changed

    older = json.decode(json.encode({"order": [s for s in ORDERS["hf"] if s != "toy"], "top_k": 7}), type=Knobs)
    assert older.order_name == "hf" and is_off(older, "toy") and older.top_k == 7
"""


def test_it_is_turned_and_told_of_like_any_other_and_an_older_order_is_still_its_preset(tmp_path):
    done = one_more.program(tmp_path, TOY, KNOBS)
    assert done.returncode == 0, done.stderr


SESSION = """
    from dataclasses import replace as with_parts
    from msgspec.structs import replace
    import small
    from tui_entropy.engine.cuda_graph.graphs import Graphs
    from tui_entropy.engine.decoding.instruments import open_instruments
    from tui_entropy.engine.session.session import Session
    from tui_entropy.records.commands import Write
    from tui_entropy.records.events import KnobsChanged
    from tui_entropy.records.sampling import Knobs
    from tui_entropy.records.step import Step
    from tui_entropy.stages.registry import BY_NAME

    keys, run = [], Graphs.run
    Graphs.run = lambda self, key, function: keys.append(key) or run(self, key, function)

    def written(graph):
        events = []
        loaded = small.endless(small.loaded())
        with open_instruments(loaded, graph=graph) as instruments:
            session = Session(loaded, instruments, events.append)
            session.begin(Write("hello", None, False, 6, Knobs(temperature=1.0, top_k=0, top_p=1.0)))
            while (n := sum(isinstance(event, Step) for event in events)) < 6:
                if n == 3:
                    session.set_knobs(replace(session.state.knobs, toy=0.05))
                session.advance()
        return events

    with_graph, plain = written(True), written(False)
    (changed,) = [event for event in plain if isinstance(event, KnobsChanged)]
    assert changed.knobs.toy == 0.05
    steps = [event for event in plain if isinstance(event, Step)]
    names = [[stage.name for stage in step.stages] for step in steps]
    assert names == 3 * [[]] + 3 * [["toy"]], names
    assert all(1 <= step.stages[0].survivors < 200 for step in steps[3:])
"""
HELD = """
    chosen = [key[1] for key in keys if key[0] == "choice"]
    assert chosen == 3 * [()] + 3 * [("toy",)], chosen
    assert [event.token_id for event in with_graph if isinstance(event, Step)] == [step.token_id for step in steps]
"""
NOT_HELD = """
    assert [key[1] for key in keys if key[0] == "choice"] == 3 * [()]
"""


@pytest.mark.parametrize(
    ("stage", "graphs"),
    [(TOY, HELD), (TOY.replace("in_graph=True, ", ""), NOT_HELD)],
    ids=["held", "not held"],
)
def test_a_run_whose_knob_is_turned_tells_it_and_a_graph_holds_it_where_it_says_so(tmp_path, stage, graphs):
    done = one_more.program(tmp_path, stage, SESSION + graphs)
    assert done.returncode == 0, done.stderr


def test_a_program_without_it_reads_the_trace_and_calls_it_by_its_name(written, tmp_path, commands):
    folder, lines = written
    trace = str(folder / "a.tui")
    done = commands.run("export", trace, "--to", "jsonl", "-o", str(tmp_path / "less.jsonl"))
    less = lines_of(tmp_path / "less.jsonl")
    assert done.code == 0 and less[0]["header"]["knobs"]["order"][:2] == ["toy", "min_p"]
    assert [step["stages"] for step in steps_of(less)] == [step["stages"] for step in steps_of(lines)]
    assert commands.run("export", trace, "--to", "npz", "-o", str(tmp_path / "less.npz")).code == 0
    with np.load(tmp_path / "less.npz", allow_pickle=False) as found:
        assert (found["candidate_cut"] == found["stages"].tolist().index("toy")).any()
    assert commands.run("replay", trace, "--snapshot", f"{tmp_path}/w.txt@150x50:page=waterfall").code == 0
    shown = (tmp_path / "w.txt").read_text()
    assert "1 toy ?" in shown and "1 toy  2 min-p" in shown


def test_a_trace_of_a_program_without_it_is_read_as_what_it_was(written, tmp_path, commands):
    folder, _ = written
    options = [
        "--raw",
        "-p",
        "hello",
        "--max-tokens",
        "3",
        "--order",
        "llama.cpp",
        "--trace",
        str(tmp_path / "b.tui"),
    ]
    assert commands.run("run", "--headless", "--model", str(folder / "model"), *options).code == 0
    assert one_more.said(tmp_path, TOY, "replay b.tui --snapshot w.txt@150x50:page=waterfall nothing") == [0]
    shown = (tmp_path / "w.txt").read_text()
    assert "order from the next token on: llama.cpp" in shown and "toy" not in shown
    with sqlite3.connect(tmp_path / "b.tui") as db:
        assert "toy" not in db.execute("SELECT json FROM events WHERE kind = 'started'").fetchone()[0]


def test_the_table_of_the_readme_has_a_row_for_it_and_the_bench_tells_its_cost(tmp_path):
    done = one_more.program(tmp_path, TOY, one_more.TABLES, "stages")
    assert "| **toy-nats** | `--toy` | 7, 10, 12 | Keeps scores within so many nats" in done.stdout, done.stderr
    bench = f"sys.path.insert(0, {str(ROOT / 'scripts' / 'benchmarks')!r}); import options; print(options.OPTIONS)"
    assert "'toy-nats': {'toy': 1.0}" in one_more.program(tmp_path, TOY, bench).stdout
