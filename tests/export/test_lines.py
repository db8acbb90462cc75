"""JSON lines of a trace are those that were written while it ran."""

import json

import exports
import pytest
import small
from msgspec.structs import replace
from scripted import logged, started, step

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.session.session import Session
from tui_entropy.export import jsonl_lines
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Ended, Event, Labelled, Ready, Switched
from tui_entropy.records.sampling import Knobs
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace import jsonl
from tui_entropy.trace.writer import Recorder


def exported(path, run=None):
    return list(map(json.loads, exports.exported(jsonl_lines.write, path, run).splitlines()))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_they_are_those_of_the_live_run_up_to_float32(tmp_path, family):
    loaded = small.loaded(family)
    recorder, log, live = Recorder(tmp_path / "run.tui"), SessionView(), []

    def tell(event: Event) -> None:
        log.append(event)
        recorder.take(event)
        if line := jsonl.line(event, loaded.card, log):
            live.append(json.loads(line))

    knobs = Knobs(temperature=1.5, adaptive="S1", mirostat_tau=3.0, min_p=0.01, repetition_penalty=1.1)
    with open_instruments(loaded, keep=0) as instruments:
        tell(Ready(loaded.card))
        session = Session(loaded, instruments, tell)
        session.begin(Write("To be, or not", None, False, 40, knobs))
        while session.active:
            session.advance()
            if len(log.steps) == 20:
                session.set_knobs(replace(knobs, temperature=0.8, n_candidates=5, mirostat_tau=0.0))
    recorder.close()

    assert len(live) == 43 and [list(line) for line in exported(tmp_path / "run.tui")] == [list(one) for one in live]
    for mine, theirs in zip(exported(tmp_path / "run.tui"), live, strict=True):
        assert_alike(mine, theirs)


def assert_alike(mine, theirs):
    match mine:
        case dict():
            assert mine.keys() == theirs.keys()
            for name in mine:
                assert_alike(mine[name], theirs[name])
        case list():
            assert len(mine) == len(theirs)
            for one, other in zip(mine, theirs, strict=True):
                assert_alike(one, other)
        case float():
            assert mine == pytest.approx(theirs, rel=1e-6)
        case _:
            assert mine == theirs


def test_a_run_that_did_not_end_has_no_last_line(tmp_path):
    path = exports.trace(tmp_path / "run.tui", [started(), step(0)])
    assert [next(iter(line)) for line in exported(path)] == ["header", "index"]


def test_a_branch_comes_with_all_that_it_goes_on_from(tmp_path):
    begun = replace(started(2), parent=1, shared=4, knobs=Knobs(temperature=0.2))
    branch = [begun, step(4, " a", 2), Labelled(2, "cold", False), step(5, " b", 2), Ended(2, "stopped")]
    path = exports.trace(tmp_path / "run.tui", exports.events(), branch)
    lines = exported(path)
    assert [next(iter(line)) for line in lines] == [
        "header", "prompt", *["index"] * 4, "branch", "label", *["index"] * 2, "end",
    ]  # fmt: skip
    assert lines[6]["branch"]["parent"] == 1 and lines[6]["branch"]["knobs"]["temperature"] == 0.2
    assert [line["index"] for line in lines if "index" in line] == list(range(6)) and lines[-1]["end"]["tokens"] == 6
    assert len(exported(path, 1)) == 2 + len(exports.WORDS) + 1
    log = logged(begun)
    assert b"header" in jsonl.line(begun, exports.CARD, log)  # of a parent that nobody was told of
    assert json.loads(jsonl.line(Switched(2), exports.CARD, log)) == {"switched": {"run": 2}}


def test_the_reason_of_an_end_outlives_what_came_after_it(tmp_path):
    later = [started(2), step(0, run=2), Ended(2, "stopped")]
    path = exports.trace(tmp_path / "run.tui", exports.events(), later)
    assert exported(path, 1)[-1]["end"]["reason"] == "token limit"
    newest = exported(path)[-1]["end"]
    assert newest["reason"] == "stopped" and newest["tokens"] == 1
