"""Runs as arrays, tables, drawings and recordings; with a model and without one."""

import math
import subprocess
import sys
from html.parser import HTMLParser

import exports
import numpy as np
import pandas
import pytest
import small
from msgspec.structs import replace
from scripted import started, step
from trace_contents import comparable

import tui_entropy
from tui_entropy import Inspector, UserError, load_trace
from tui_entropy.export import fragment
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import Ended
from tui_entropy.records.step import Candidate
from tui_entropy.trace.reader import Trace

PROMPT = "ABCDEFGHIJ"
HOSTILE = (
    "</span><script>alert(1)</script>", '"onmouseover="alert(1)', "<img src=x onerror=alert(1)>", "$x^2$",
    "&lt;b&gt;", "\u202egnp.exe", "\x1b]0;owned\x07", "\ud800",
)  # fmt: skip


# --- Arrays and tables ---------------------------------------------------------------------------------------


def test_every_series_is_an_array_by_each_of_its_names_and_unknown_is_nan(inspector):
    run = inspector.generate(PROMPT, max_tokens=5)
    for metric in METRICS:
        expected = [metric.read(step) for step in run]
        expected = np.array([math.nan if value is None else value for value in expected])
        for found in (getattr(run, metric.field), run[metric.name], run[metric.field], run[metric.column]):
            assert found.dtype == np.float64 and np.array_equal(found, expected, equal_nan=True)
        assert metric.field in dir(run)
    assert np.isnan(run.kl).all() and run.token_ids.dtype == np.int64
    with pytest.raises(AttributeError, match="a run has no 'entropi': did you mean entropy"):
        run.entropi  # noqa: B018
    scores = run.prompt_scores["surprisal"]
    assert scores.shape == (10,) and np.isnan(scores[0]) and np.isfinite(scores[1:]).all()


def test_grids_are_arrays_whose_first_axis_is_the_steps(inspector):
    run, card = inspector.generate(PROMPT, max_tokens=5), inspector.card
    arrays = run.arrays()
    heads = np.stack([step.head_entropy.numpy() for step in run])
    assert np.array_equal(arrays["head_entropy_nats"], heads) and heads.shape == (5, card.n_layers, card.n_heads)
    assert arrays["candidate_id"][:, 0].tolist() == [step.candidates[0].token_id for step in run]
    assert np.array_equal(arrays["entropy_nats"], run.entropy)


def test_a_table_of_pandas_has_a_row_for_each_step_and_keeps_the_index_that_texts_came_with(inspector):
    run = inspector.generate(PROMPT, max_tokens=5)
    frame = run.to_pandas()
    assert np.array_equal(frame["entropy_nats"], run.entropy) and frame["text"].tolist() == run.tokens
    assert frame["step"].tolist() == list(range(5)) and len(run.to_pandas(prompt=True)) == 15
    assert "part" in inspector.write("A").to_pandas().columns
    texts = pandas.Series(["ABCD", "EFGHI"], index=["one", "other"])
    runs = inspector.read_all(texts)
    assert runs.labels == ["one", "other"] and runs[1:].labels == ["other"]
    assert runs.to_pandas().groupby("label").size().to_dict() == {"one": 3, "other": 4}
    assert runs.number(runs[1].number) is runs[1] and "2 runs" in repr(runs)
    knob = pandas.Series([0.0])[0]
    assert inspector.generate(texts["one"], temperature=knob, max_tokens=1).knobs.temperature == 0


def test_without_pandas_only_its_tables_are_missing_and_a_sentence_says_so(inspector, monkeypatch):
    run = inspector.generate(PROMPT, max_tokens=2)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pandas is not installed"):
        run.to_pandas()
    assert run.arrays() and run.entropy.shape == (2,)


# --- Drawn ---------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a piece of HTML, with whether each was closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.words = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def hostile(tmp_path):
    candidates = tuple(
        Candidate(n, word.encode("utf-8", "replace"), -1.0, 0.0, HOSTILE[0]) for n, word in enumerate(HOSTILE)
    )
    steps = [replace(step(n, "x"), text=word, candidates=candidates, stages=()) for n, word in enumerate(HOSTILE)]
    steps = [replace(one, stage_probs=Grid((0, 9), b"")) for one in steps if one.text != "\ud800"]
    begun = replace(started(), prompt=HOSTILE[0])
    card = replace(exports.CARD, name=HOSTILE[0])
    return load_trace(exports.trace(tmp_path / "run.tui", [begun, *steps, Ended(1, HOSTILE[2])], card=card)).last


@pytest.mark.parametrize("tint", ["entropy", "surprisal", "kl"])
def test_nothing_that_a_model_wrote_is_markup_in_a_drawing(hostile, tint):
    drawn = Elements(hostile.show(tint, unit="bits").html)
    assert {tag for tag, _ in drawn.found} <= {"div", "span", "table", "tbody", "tr", "th", "td"}
    assert {name for _, attributes in drawn.found for name in attributes} <= {"class", "style", "title"}
    assert HOSTILE[0] in drawn.words and "\x1b" not in drawn.words and "\u202e" not in drawn.words
    assert "mathjax_ignore" in drawn.found[0][1]["class"]
    (frame,) = Elements(hostile.page()._repr_html_()).found
    assert frame[0] == "iframe" and frame[1]["sandbox"] == "allow-scripts" and "{{" not in frame[1]["srcdoc"]


def test_a_drawing_has_each_token_once_tinted_by_its_value_and_says_the_highest_below(inspector, tmp_path):
    run = inspector.generate(PROMPT, max_tokens=9)
    drawn = Elements(run.show("surprisal").html)
    titles = [attributes["title"] for tag, attributes in drawn.found if "title" in attributes][1:]
    assert len(titles) == 19 and titles[10].startswith("step 0 · ") and titles[0].startswith("prompt · ")
    assert f"surprisal {fragment.figure(run.surprisal[3])} nats" in titles[13]
    assert sum(tag == "tr" for tag, _ in drawn.found) == 1 + fragment.N_ROWS
    assert run._repr_html_() == run.show("entropy").html and "characters of HTML" in repr(run.show())
    assert inspector.show().save(tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(UserError, match="cannot be written"):
        inspector.show().save(tmp_path / "no" / "a.html")


def test_of_a_long_text_the_newest_tokens_are_drawn(inspector, monkeypatch):
    monkeypatch.setattr(fragment, "MAX_TOKENS", 4)
    assert "… 11 tokens before" in inspector.generate(PROMPT, max_tokens=5).show().html
    assert "… 6 tokens before" in inspector.write(PROMPT, max_tokens=5).show().html


# --- Recorded ------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_read_back_without_a_model_number_by_number(llama, tmp_path):
    file = tmp_path / "run.tui"
    with Inspector(llama, trace=file, temperature=1.0, seed=3) as inspector:
        assert inspector.trace == file
        run = inspector.generate(PROMPT, max_tokens=6)
        branch = run.branch(3, seed=8).advance(2) and inspector.run
        run.probe("lens", k=2)
    runs = load_trace(str(file))
    assert [one.number for one in runs] == [1, 2] and runs.last.number == 2
    for live, read in zip((run, branch), runs, strict=True):
        assert comparable(*live) == comparable(*read) and live.text == read.text and live.prompt == read.prompt
        assert np.array_equal(live.entropy, read.entropy)
        pandas.testing.assert_frame_equal(live.to_pandas(prompt=True), read.to_pandas(prompt=True))
    assert runs[0].answers[0][0].values.shape == run.answers[0][0].values.shape
    with pytest.raises(UserError, match="is there already"):
        Inspector(llama, trace=file)
    with inspector:
        inspector.generate(PROMPT, max_tokens=1)
        assert inspector.trace not in (None, file)
    with pytest.raises(UserError, match="nothing is recorded: the trace"):
        Inspector(llama, trace=file / "inside.tui")


def test_a_recording_is_gone_on_with_as_if_it_had_never_ended(tmp_path):
    folder, file = str(small.saved(tmp_path / "model")), tmp_path / "run.tui"
    options = {"temperature": 1.0, "top_k": 0, "seed": 3, "device": "cpu"}
    with Inspector(folder, trace=file, **options) as inspector:
        whole = inspector.generate(PROMPT, max_tokens=40).token_ids.tolist()
        run = inspector.write(PROMPT, max_tokens=40)
        run.advance(5)
        run.set(top_k=17)
    n = len(whole)
    with Inspector.open(file, record=tmp_path / "more.tui") as again:
        assert again.run.number == 2 and len(again.run) == 5 and again.run.knobs.top_k == 17
        again.run.set(top_k=0)
        assert again.run.paused.startswith("as recorded")
        assert again.run.finish().token_ids.tolist() == whole and len(again.runs[0]) == n
    assert [len(one) for one in load_trace(tmp_path / "more.tui")] == [n, n]
    assert [len(one) for one in load_trace(file)] == [n, 5]
    with pytest.raises(UserError, match="has no run 7"):
        Inspector.open(file, 7)
    with pytest.raises(UserError, match="its model was model and is other"):
        Inspector.open(file, model=str(small.saved(tmp_path / "other", "gpt2")))


def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path, own_folders):
    (tmp_path / "text.tui").write_text("no trace")
    for path in (tmp_path / "none.tui", tmp_path / "text.tui", 3):
        with pytest.raises(UserError):
            load_trace(path)


def test_the_record_of_a_run_has_the_events_of_the_loop(llama, tmp_path):
    file = tmp_path / "run.tui"
    with Inspector(llama, trace=file) as inspector:
        inspector.generate(PROMPT, max_tokens=2)
    kinds = [type(event).__name__ for _, _, event in Trace.open(file).events()]
    assert kinds == ["Ready", "Started", "Prefilled", "PromptScores", "Prefilled", "Ended"]


# --- The package ---------------------------------------------------------------------------------------------


def test_the_package_has_its_public_names_and_costs_nothing_to_import():
    code = (
        "import sys, tui_entropy; print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'msgspec', 'transformers', 'textual', 'pandas'}), dir(tui_entropy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] {sorted(tui_entropy.__all__)}"
    assert all(getattr(tui_entropy, name) is not None for name in tui_entropy.__all__)
    assert set(tui_entropy._HOMES) == set(tui_entropy.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="has no attribute 'inspector'"):
        tui_entropy.inspector  # noqa: B018


def test_what_is_told_of_a_prompt_is_a_warning(inspector, monkeypatch):
    from tui_entropy.records.events import Refused

    with pytest.warns(UserWarning, match="leaves the system prompt out"):
        inspector._live.tell(Refused("the model's chat template leaves the system prompt out", notice=True))


def test_an_option_that_is_none_is_refused_before_a_model_is_loaded(llama):
    for options, said in (
        ({"devise": "cpu"}, "there is no option 'devise': did you mean device"),
        ({"temperature": -1}, "temperature is -1"),
        ({"record_attention": "every"}, "must be one of off, shown, all"),
        ({"kept_cache": -1}, "kept_cache is -1"),
    ):
        with pytest.raises(UserError, match=said):
            Inspector("no/such-model", **options)
    with pytest.raises(UserError, match="device is for a model that is still to be loaded"):
        Inspector(llama, device="cpu")
    with pytest.raises(UserError, match="the model is a int"):
        Inspector(3)
