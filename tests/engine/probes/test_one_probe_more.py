"""A probe in a file of its own is found wherever probes are told of, and nothing else was touched for it."""

from __future__ import annotations

import json
import sys

import one_more
import pytest
import small
from inspectors import screen_text, settled, up
from msgspec.structs import replace
from worker_engine import ENDLESS, Engine

from tui_entropy.records.commands import Load
from tui_entropy.records.events import Ended, Ready
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer

TOY = '''
"""Odds: how much more probable the best token is than the others."""
import os
from msgspec import Struct
from tui_entropy.engine.probes import library
from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe
from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.panels import (
    Axis, Bars, Column, Edge, Graph, Heatmap, Node, Note, Table, Tokens,
)

library.__path__.append(os.path.dirname(__file__))  # as if it lay there

class Options(Struct, frozen=True, forbid_unknown_fields=True):
    n: int = 3

def compute(at, options):
    top = at.pass_before().logits.log_softmax(-1).topk(options.n)
    p, names = top.values.exp().tolist(), tuple(f"<b>{int(one)}</b>" for one in top.indices)
    tokens = [Tokens((int(one),), at.loaded.tokenizer.token_bytes(int(one))) for one in top.indices]
    yield Table("the best", (Column("token"), Column("ln p", "nats")), tuple(zip(tokens, top.values.tolist())))
    yield Bars("as bars", tuple(p), Axis("token", names), "share")
    yield Heatmap("odds", Grid.of([[a / (a + b) for b in p] for a in p]), Axis("a", names), Axis("b", names), "share")
    yield Graph("from best to last", (Node("best"), Node("last", 1)), (Edge(0, 1, p[0] - p[-1]),), "share")
    yield Note("in words", "The best has " + names[0])

def check(answer, evidence):
    logp = evidence.logp()
    yield Difference([row[1] for row in answer.panels[0].rows], sorted(logp)[: -1 - len(answer.panels[0].rows): -1],
                     float(abs(logp).max()))

PROBE = Probe("a-toy", "How much more probable the best token is.", ONE_PASS, Options, compute, check)
'''
TITLES = ("the best", "as bars", "odds", "from best to last", "in words")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a small model, a trace of an answer about it, and what commands told of both."""
    folder = tmp_path_factory.mktemp("more")
    small.saved(folder / "model")
    asked = "probe a-toy --model ./model --raw -p hello --position 7"
    codes = one_more.said(
        folder,
        TOY,
        "probe list.txt",
        "probe --json list.json",
        f"{asked} --option n=4 --trace a.tui drawn.txt",
        f"{asked} --json answer.json",
        f"{asked} --option m=4 wrong.txt",
        "doctor --json --model ./model doctor.json",
        "export a.tui --to jsonl -o - lines.jsonl",
    )
    assert codes == [0, 0, 0, 0, 2, 0, 0]
    return folder


def test_the_command_lists_it_with_what_it_needs_and_its_options(written):
    told = (written / "list.txt").read_text()
    assert "a-toy\n    How much more probable the best token is.\n    needs the pass that chose the token" in told
    assert "--option n=3" in told
    (toy,) = [one for one in json.loads((written / "list.json").read_text()) if one["name"] == "a-toy"]
    assert toy["options"][0]["default"] == 3


def test_the_command_draws_each_panel_of_its_answer(written):
    lines = (written / "drawn.txt").read_text().splitlines()
    assert [
        next(title for title in TITLES if line.startswith(title)) for line in lines if line.startswith(TITLES)
    ] == [*TITLES]
    at = next(n for n, line in enumerate(lines) if line.startswith("the best"))
    numbers = [float(line.split()[-1]) for line in lines[at + 2 : at + 6]]
    assert numbers == sorted(numbers, reverse=True) and numbers[0] < 0 and lines[at + 6] == ""


def test_the_command_prints_the_answer_as_one_json_object(written):
    answer = json.loads((written / "answer.json").read_text())
    assert (answer["name"], answer["position"], answer["options"]) == ("a-toy", 7, {"n": 3})
    assert [panel["kind"] for panel in answer["panels"]] == ["table", "bars", "heatmap", "graph", "note"]
    table, bars = answer["panels"][:2]
    assert table["rows"][0][0]["ids"] and bars["values"] == sorted(bars["values"], reverse=True)


def test_json_lines_of_a_trace_have_the_answer(written):
    lines = one_more.lines_of(written / "lines.jsonl")
    (probe,) = [line["probe"] for line in lines if "probe" in line]
    assert probe["options"] == {"n": 4} and len(probe["panels"][0]["rows"]) == 4


def test_a_program_without_it_shows_the_recorded_answer_and_exports_it(written, commands, tmp_path):
    trace = str(written / "a.tui")
    again = commands.run("probe", "a-toy", "--recording", trace)
    assert again.code == 0 and again.out == (written / "drawn.txt").read_bytes()
    assert b"a-toy" in commands.run("probe", "--recording", trace).out
    page = tmp_path / "page.txt"
    assert commands.run("replay", trace, "--snapshot", f"{page}@120x60:token=3,page=probes").code == 0
    assert "a-toy" in page.read_text() and "the best" in page.read_text() and "as bars" in page.read_text()
    assert commands.run("export", trace, "--to", "html", "-o", str(tmp_path / "a.html")).code == 0
    page = (tmp_path / "a.html").read_text()
    assert '"kind":"graph"' in page and "<b>" not in page.partition('id="data">')[2].partition("</script>")[0]


def test_doctor_has_its_answer_a_second_time_and_what_it_takes(written):
    report = json.loads((written / "doctor.json").read_text())
    (row,) = [check for check in report["checks"] if check["name"] == "probe a-toy"]
    assert row["verdict"] == "pass" and 0 < row["worst"] <= row["bound"]
    (cost,) = [cost for cost in report["costs"] if cost["view"] == "probe a-toy"]
    assert cost["seconds"] > 0


WRONG = TOY.replace("sorted(logp)[: -1", "sorted(logp - 0.01)[: -1")


def test_doctor_sees_where_its_two_ways_differ(tmp_path):
    assert WRONG != TOY
    small.saved(tmp_path / "model")
    assert one_more.said(tmp_path, WRONG, "doctor --json --model ./model doctor.json") == [1]
    checks = json.loads((tmp_path / "doctor.json").read_text())["checks"]
    assert [check["name"] for check in checks if check["verdict"] == "fail"] == ["probe a-toy"]


WORKER = """
import sys
from pathlib import Path
import one_more_file
from tui_entropy.serving.worker import main
main(Path(sys.argv[1]), Path(sys.argv[2]))
"""


async def test_an_engine_offers_and_answers_it_and_the_screen_shows_it(tmp_path):
    small.saved(tmp_path / "model")
    (tmp_path / "one_more_file.py").write_text(TOY)
    first = f"import sys; sys.path[:0] = {[str(tmp_path)]!r}\n"
    engine = Engine(tmp_path, [sys.executable, "-c", first + WORKER])
    try:
        engine.end.send(Load(ModelSpec(str(tmp_path / "model"))))
        assert "a-toy" in [probe.name for probe in engine.until(Ready).probes]
        engine.end.send(replace(ENDLESS, max_tokens=3))
        engine.until(Ended)
        engine.end.send(AskProbe("a-toy", 1, len(ENDLESS.prompt) + 2))
        answer = engine.until(ProbeAnswer)
    finally:
        engine.close()
    app = up()
    async with app.run_test(size=(120, 60)) as pilot:
        app.take([event for event in engine.heard if event is not answer])
        await settled(app, pilot)
        await pilot.press("U")
        await settled(app, pilot)
        app.sent.clear()
        await pilot.press("enter")
        (asked,) = [command for command in app.sent if isinstance(command, AskProbe) and command.name == "a-toy"]
        assert asked.options == {"n": 3}
        app.take([ProbeAnswer(answer.name, 1, asked.position, answer.options, answer.panels)])
        await settled(app, pilot)
        shown = screen_text(app)
    assert all(title in shown for title in TITLES)


def test_the_table_of_the_readme_has_a_row_for_it(tmp_path):
    done = one_more.program(tmp_path, TOY, one_more.TABLES, "probes")
    assert "| **a-toy** | the pass that chose the token, once more | `n` |" in done.stdout, done.stderr
