"""Answers of probes in exports: each kind of panel as JSON and on the page, and deaf to what a model writes."""

import json
import math
import re
import shutil
import subprocess
from xml.etree import ElementTree

import exports
import made_panels
import pytest
from asking import fan_answer
from made_panels import HOSTILE
from scripted import PROMPT, step

from tui_entropy.core.errors import UserError
from tui_entropy.export import html
from tui_entropy.export.diagrams import sankey
from tui_entropy.export.recorded_run import open_recording
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.continuations import SampledContinuations
from tui_entropy.trace.jsonl import panel

DOM = """
class Node {
  constructor(tag) {
    Object.assign(this, {tag, children: [], dataset: {}, style: {}, attributes: {}, className: ""});
  }
  get classList() { return {add() {}, remove() {}, toggle() {}}; }
  append(...more) { this.children.push(...more); }
  replaceChildren(...more) { this.children = more; }
  setAttribute(name, value) { this.attributes[name] = value; }
  querySelector() { return new Node("x"); }
  get words() {
    if (this.textContent !== undefined) return [this.textContent];
    return this.children.flatMap(one => typeof one === "string" ? [one] : one.words);
  }
  get rows() {
    if (this.tag === "tr") return [this.children.map(one => one.className || one.words.join(" "))];
    return this.children.flatMap(one => typeof one === "string" ? [] : one.rows);
  }
}
const places = {data: Object.assign(new Node("script"), {textContent: require("fs").readFileSync(0, "utf8")})};
globalThis.document = {
  createElement: tag => new Node(tag), createElementNS: (_, tag) => new Node(tag),
  getElementById: name => places[name] ??= new Node("place"), querySelector: () => new Node("x"),
  querySelectorAll: () => [],
};
"""
"""As much of a browser as the page needs to draw."""
TOLD = "console.log(JSON.stringify(places.answers.children.map(one => ({words: one.words, rows: one.rows}))));"


def page(path, *answers) -> str:
    return exports.exported(html.write, exports.trace(path, [*exports.events(), *answers])).decode()


def data(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_has_each_panel_once_with_unknown_as_null(tmp_path):
    (told,) = data(page(tmp_path / "a.tui", made_panels.answer(position=PROMPT)))["answers"]
    assert (told["name"], told["position"], told["options"]) == ("probe word", PROMPT, "k=3")
    heatmap, bars, table, graph, note, text, grid, flow = told["panels"]
    assert text["kind"] == "text" and text["values"] == [0.5, -1.0, None] and len(text["names"]) == 3
    assert heatmap["values"] == [[0.0, 0.5], [1.0, None]] and heatmap["columns"] == ["word", "d"]
    assert bars["values"] == [pytest.approx(math.log(2), abs=1e-4), None, -1.0] and bars["unit"] == "nats"
    assert table["rows"] == [["word", pytest.approx(0.6931), 0.25, 7, True], ["word", None, 1.0, -1, None]]
    assert graph["edges"] == [["word", "end", 0.25], ["word", "word", -0.5]] and note["text"].startswith("word")
    assert (
        heatmap["tokens"] == [] and grid["tokens"] == ["word", "·a", "b⏎", "c"] and grid["values"][1] == [1.0, None]
    )
    assert flow["kind"] == "flow" and [one[0] for one in flow["shapes"]].count("path") == 6
    assert {"word", "·a", "100 %"} <= {one[2] for one in flow["shapes"] if one[0] == "text"}


def test_a_step_is_told_as_its_candidates_and_why_there_is_no_answer_in_words(tmp_path):
    answers = ProbeAnswer("step", 1, 4, panels=(step(1),)), ProbeAnswer("z", 1, 4, unavailable="none <here>")
    step_told, none_told = data(page(tmp_path / "a.tui", *answers))["answers"]
    assert step_told["panels"][0]["kind"] == "table" and none_told["unavailable"] == "none <here>"


def test_nothing_of_an_answer_becomes_markup_or_is_obeyed(tmp_path):
    text = page(tmp_path / "a.tui", made_panels.answer(HOSTILE))
    assert not set("\x1b\x07\u202e\x9b") & set(text) and text.count("<script") == 2 and "<img" not in text
    assert "‹202E›" in json.dumps(data(text)["answers"], ensure_ascii=False)


def test_a_panel_as_json_has_its_words_as_they_are_and_unknown_as_null():
    heatmap, bars, table, graph, note, text = map(panel, made_panels.panels(HOSTILE))
    assert [one["kind"] for one in (heatmap, bars, table, graph, note, text)] == [
        "heatmap", "bars", "table", "graph", "note", "text",
    ]  # fmt: skip
    assert heatmap["values"] == [[0.0, 0.5], [1.0, None]] and heatmap["rows"]["labels"][0] == f"{HOSTILE} a"
    assert table["rows"][1][0] == {"ids": (3, 4), "text": HOSTILE, "bytes": HOSTILE.encode().hex()}
    assert table["rows"][1][1:] == [None, 1.0, -1, None] and graph["edges"] == [[0, 1, 0.25], [0, 0, -0.5]]
    assert json.loads(json.dumps(panel(step(1))))["kind"] == "step"
    flow = panel(made_panels.diagram(HOSTILE))
    assert flow["kind"] == "flow" and flow["edges"][0] == [0, 2, 0.6] and flow["parts"][2]["residual"] is None
    assert flow["nodes"][0] == {
        "row": 0, "column": 3, "share": 1.0, "level": 1.0,
        "token": {"ids": (0,), "text": HOSTILE, "bytes": HOSTILE.encode().hex()},
    }  # fmt: skip
    grid = panel(made_panels.token_map(HOSTILE))
    assert heatmap["tokens"] == [] and grid["tokens"][0]["text"] == HOSTILE and grid["tokens"][1]["ids"] == (1,)


def drawn(text):
    """What the page's own script draws of its answers."""
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    told = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    done = subprocess.run(["node", "-e", DOM + script + TOLD], input=told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("node") is None, reason="nothing is here that runs the page's script")
def test_the_script_of_the_page_draws_each_panel(tmp_path):
    sampled = SampledContinuations((), 4, "exact", 0.0)
    answers = made_panels.answer(position=PROMPT), fan_answer(sampled, 1, PROMPT)
    fan, word = drawn(page(tmp_path / "a.tui", *answers))
    rows = word["rows"]
    assert rows[:3] == [["word a", "h0", "h4"], ["b", "h7", "unknown"], ["", "word", "d"]]
    assert [row[0] for row in rows[3:6]] == ["word", "y", "z"]
    assert rows[6] == ["word", "in nats nats", "share %", "whole", "any"]
    assert rows[8][0] == "word" and rows[8][1:] == ["?", "n", "n", "?"]
    assert [row[:3] for row in rows[9:11]] == [["word", "→", "word"], ["word", "→", "end"]]
    assert rows[12:14] == [["2", "h0", "h4"], ["1", "h7", "unknown"]] and {"·a", "b⏎", "c"} <= set(word["words"])
    assert {"100 %", "60 %"} <= set(word["words"])
    assert "word and more of it" in word["words"] and word["words"][0].startswith("probe word: ")
    assert fan["words"][0].startswith("continuations: ")


def test_a_flow_is_a_picture_that_needs_nothing_else(tmp_path):
    log = open_recording(exports.trace(tmp_path / "a.tui", exports.events()), None, False).log
    sankey.write(made_panels.answer(HOSTILE), log, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    root = ElementTree.fromstring(text)
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags.count("path") == 6 and tags.count("rect") == 7 and {"img", "script"}.isdisjoint(tags)
    assert not set("\x1b\x07\u202e\x9b") & set(text) and "http" not in text.replace("http://www.w3.org", "")
    wide = [float(element.get("width")) for element in root.iter() if element.tag.endswith("rect")]
    assert wide == pytest.approx([sankey.FULL * share for share in (1, 0.3, 0.6, 0.3, 0.1, 0.2, 0.3)], abs=0.1)
    with pytest.raises(UserError, match="no diagram"):
        sankey.write(ProbeAnswer("z", 1, 4), log, tmp_path / "b.svg")
    with pytest.raises(UserError, match="cannot be written"):
        sankey.write(made_panels.answer(), log, tmp_path / "none" / "b.svg")


def test_ribbons_fill_the_side_of_the_place_that_they_leave():
    drawn = sankey.drawing(made_panels.diagram(), list("abcd"), lambda node: "x")
    paths = [shape.attributes["d"] for shape in drawn.shapes if shape.tag == "path"]
    first, second = (float(re.match(r"M([\d.]+)", path)[1]) for path in paths[:2])
    assert first - second == pytest.approx(sankey.FULL * 0.3, abs=0.1)  # that of the earlier token is on the left
