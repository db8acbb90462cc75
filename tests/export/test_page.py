"""The page: whole in one file, true to the run, and deaf to what a model writes."""

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import exports
import pytest
from msgspec.structs import replace
from scripted import started, step

from tui_entropy.export import html
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.arrays import Grid
from tui_entropy.records.step import Candidate

HOSTILE = (
    "</script><script>document.title='owned'</script>", "<!--<script>", "\"'`&amp;", "<img src=x onerror=alert(1)>",
    "\u202egnp.exe\u2066", "\x1b]0;owned\x07", "\u2028", "{{data}}",
)  # fmt: skip


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def made(path) -> str:
    return exports.exported(html.write, path).decode()


def data(text: str):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture
def hostile(tmp_path):
    card = replace(exports.CARD, name=HOSTILE[0] + "{{data}}")
    candidates = tuple(
        Candidate(n, word.encode(), -1.0, 0.0, HOSTILE[0] + HOSTILE[4]) for n, word in enumerate(HOSTILE)
    )
    steps = [replace(step(n, word), candidates=candidates, stages=()) for n, word in enumerate(HOSTILE)]
    steps = [replace(one, stage_probs=Grid((0, 9), b"")) for one in steps]
    begun = replace(started(), prompt=HOSTILE[0], system=HOSTILE[1])
    return exports.trace(tmp_path / "run.tui", [begun, *steps], card=card)


def test_it_has_every_token_and_every_series_with_unknown_as_null(tmp_path):
    page_data = data(made(exports.trace(tmp_path / "run.tui")))
    assert [token[0] for token in page_data["tokens"]] == ["The", " capital", " is", *exports.WORDS]
    assert page_data["prompt"] == 3 and page_data["marks"] == [[4, "T 0.7→1.2"]]
    series = {one["name"]: one for one in page_data["series"]}
    assert list(series) == [one.name for one in METRICS]
    assert series["entropy"]["values"][:4] == [None, 0.125, 0.25, step(0).entropy]
    assert series["entropy"]["units"] == ["nats", "bits"] and series["entropy"]["bit"] == pytest.approx(math.log(2))
    assert series["final entropy"]["values"][2] is None


def test_a_step_has_its_candidates_what_cut_them_and_its_heads(tmp_path):
    page_data = data(made(exports.trace(tmp_path / "run.tui")))
    first = page_data["steps"][0]
    assert [page_data["names"][name] for name, *_ in first["candidates"]] == ["·Paris", "·‹FF›"]
    assert first["candidates"][1][1:4] == [pytest.approx(math.log(0.1), abs=1e-3), 0.0, "top-p"]
    shares = [page_data["levels"].index(letter) / 62 for letter in first["heads"]]
    assert shares == [pytest.approx(0.2, abs=1 / 62)] * 6


def test_a_head_without_attention_is_unknown(tmp_path):
    blind = replace(step(0), head_entropy=Grid.of([[0.0, 0.0], [math.nan] * 2, [math.log(3)] * 2]))
    (one,) = data(made(exports.trace(tmp_path / "run.tui", [started(), blind])))["steps"]
    assert one["heads"] == html.LEVELS[0] * 2 + "__" + html.LEVELS[-1] * 2


def test_a_name_is_told_once(tmp_path):
    page_data = data(made(exports.trace(tmp_path / "run.tui", exports.events([" Paris"] * 50))))
    assert sorted(page_data["names"]) == sorted({"The", "·capital", "·is", "·Paris", "·‹FF›"})


def test_nothing_that_was_written_becomes_markup(hostile):
    text = made(hostile)
    elements = Elements(text).found
    assert [attributes for tag, attributes in elements if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert not {"img", "iframe", "object", "link", "base"} & {tag for tag, _ in elements}
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)


def test_what_would_be_obeyed_or_hidden_is_made_visible(hostile):
    text = made(hostile)
    assert not set("\u202e\u2066\x1b\x07\u2028") & set(text)
    page_data = data(text)
    assert page_data["tokens"][3][0] == HOSTILE[0] and page_data["tokens"][7][0] == "‹202E›gnp.exe‹2066›"
    assert page_data["tokens"][-1][0] == "{{data}}"


def test_it_needs_no_network_and_runs_no_script_but_its_own(tmp_path):
    text = made(exports.trace(tmp_path / "run.tui"))
    assert set(re.findall(r"https?://[^\s\"'`]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text and "url(" not in text
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in text
    assert "innerHTML" not in script and "eval" not in script


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser is here")
def test_a_browser_draws_the_text_and_nothing_of_it_acts(hostile, tmp_path):
    file = tmp_path / "run.html"
    file.write_text(made(hostile), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    command = ["chromium", *options, f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    drawn = [attributes for tag, attributes in Elements(dom).found if tag == "span" and "data-n" in attributes]
    assert len(drawn) == 3 + len(HOSTILE)
    assert drawn[0]["class"] == "unknown prompt" and drawn[3]["class"].startswith("h")
    assert "<title>owned" not in dom and "<img" not in dom
    assert dom.count(">cut by unknown") == len(HOSTILE)  # a stage whose name is no name
