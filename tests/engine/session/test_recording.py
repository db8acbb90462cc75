"""What real engines say is what their traces tell, of every family of models and with every kind of number."""

import json
import time
from pathlib import Path

import pytest
from msgspec.structs import replace
from recorded import recorded
from scripted import logged
from small import loaded, saved
from teller import Teller
from trace_contents import comparable, known
from worker_engine import ENDLESS, Engine

from tui_entropy.analysis.run import write_out
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Branch, Load, Pause, SetKnobs, Write
from tui_entropy.records.events import Event, KnobsChanged, Paused, Ready, Refused
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint
from tui_entropy.records.step import Step
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace

KNOBS = {
    "default": Knobs(),
    "no stage": Knobs(temperature=1.0, top_k=0, top_p=1.0),
    "adaptive": Knobs(adaptive="own", n_candidates=3),
    "mirostat": Knobs(mirostat_tau=3.0, xtc_probability=0.5, order=Knobs().order[::-1]),
}


def written(family: str, knobs: Knobs) -> list[Event]:
    model, events = loaded(family), []
    with open_instruments(model) as instruments:
        session = Session(model, instruments, events.append)
        session.begin(Write("ABCDEFGHIJ", None, False, 20, knobs))
        while session.active:
            session.advance()
    return [Ready(model.card), *events]


@pytest.mark.parametrize(
    ("family", "knobs"),
    [
        ("llama", "default"),
        ("llama", "no stage"),
        ("llama", "adaptive"),
        ("gemma3", "default"),
        ("hybrid", "mirostat"),
    ],
)
def test_every_step_of_a_model_comes_out_as_it_went_in(tmp_path, family, knobs):
    events = written(family, KNOBS[knobs])
    trace = Trace.open(recorded(tmp_path / "a.tui", events))
    steps = [event for event in events if isinstance(event, Step)]
    assert len(steps) > 5 and comparable(*trace.steps(1)) == comparable(*steps)
    assert comparable(*trace.log().steps) == comparable(*logged(*events).steps)


def test_what_is_set_while_nothing_is_written_is_in_the_trace_too(tmp_path):
    """Vectors also while they are off; another run, and the way back, have what was set there."""
    model = loaded("llama")
    with open_instruments(model) as instruments:
        teller = Teller(model, instruments)
        state, before = teller.session.state, teller.session.state.vectors
        weak = (*before[:-1], replace(teller.off, strength=0.5))
        teller.write(4)
        teller.session.set_vector(weak[-1])
        teller.session.set_knobs(cold := replace(state.knobs, temperature=0.25))
        teller.write(3)
        teller.session.set_vector(teller.off)
        set_before = teller.log.set_knobs, teller.log.set_vectors
        teller.session.branch(Branch(1, 2))
        teller.write(2)
        teller.session.set_vector(weak[-1])
        assert set_before == (cold, before) and teller.log.set_vectors == weak
        trace = Trace.open(recorded(tmp_path / "a.tui", [Ready(model.card, before), *teller.events]))
        at = [Playback(trace, 1, first=first).log for first in (4, 5, None)]
        assert [(log.set_vectors, log.set_knobs == cold) for log in at] == [
            (before, False), (weak, True), (before, True),
        ]  # fmt: skip
        assert Playback(trace, 2, first=None).log.set_vectors == weak == state.vectors
        teller.go(1)
        assert (teller.log.set_knobs, teller.log.set_vectors) == (state.knobs, state.vectors) == (cold, weak)


def test_the_trace_of_a_killed_engine_tells_what_its_screen_knew(tmp_path):
    engine = Engine(tmp_path)
    path = tmp_path / "a.tui"
    engine.end.send(Load(ModelSpec(str(saved(tmp_path / "model"))), trace=str(path)))
    assert engine.until(Ready).trace == str(path)
    engine.end.send(ENDLESS)
    engine.until(Step, 5)
    engine.end.send(SetKnobs(Knobs(temperature=0.5)))
    engine.until(KnobsChanged)
    engine.end.send(Pause())
    engine.until(Paused)
    time.sleep(0.2)
    engine.close()
    log, live = known(Trace.open(path).log()), known(logged(*engine.heard))
    for moment in ("memory", "progress"):
        assert log.pop(moment) is None and live.pop(moment)
    assert comparable(*log.pop("steps")) == comparable(*live.pop("steps")) and log == live


def test_an_engine_tells_that_it_cannot_record_and_is_ready_all_the_same(tmp_path):
    engine = Engine(tmp_path)
    engine.end.send(Load(ModelSpec(str(saved(tmp_path / "model"))), trace="/dev/null/a.tui"))
    assert engine.until(Ready).trace is None
    (refused,) = [event for event in engine.heard if isinstance(event, Refused)]
    assert "nothing is recorded" in refused.sentence
    engine.close()


def test_without_a_screen_a_breakpoint_ends_the_text_and_stays_in_the_trace(tmp_path, capsysbinary):
    spec, write = ModelSpec(str(saved(tmp_path / "model"))), Write("ABC", None, False, 10, Knobs(seed=3))
    stops = {"breakpoints": (Breakpoint(1, "step==3"),), "watches": ("A",)}
    assert write_out(spec, write, (), True, tmp_path / "a.tui", **stops) == 4
    lines, stderr = capsysbinary.readouterr()
    keys = [next(iter(json.loads(line))) for line in lines.splitlines()]
    assert keys == ["header", "watches", "breakpoints", "prompt", "index", "index", "breakpoints", "paused", "end"]
    assert json.loads(lines.splitlines()[-1])["end"]["reason"] == "stopped at breakpoint: step == 3"
    assert b"stopped at breakpoint: step == 3" in stderr
    log = Trace.open(tmp_path / "a.tui").log()
    assert log.breakpoints == (Breakpoint(1, "step==3", hits=1),) and log.run.watches[0].text == "A"
    assert [len(one.watched) for one in log.steps] == [1, 1]
    assert write_out(spec, write, (), True, None, breakpoints=(Breakpoint(1, "step > 99"),)) == 0


@pytest.mark.parametrize("place", ["a.tui", "model/config.json/a.tui"])
def test_without_a_screen_the_text_comes_whether_it_can_be_recorded_or_not(tmp_path, capsysbinary, place):
    spec = ModelSpec(str(saved(tmp_path / "model")))
    write_out(spec, Write("ABC", None, False, 10, Knobs(seed=3)), (), False, tmp_path / place)
    text, stderr = capsysbinary.readouterr()
    assert text.endswith(b"\n") and len(text) > 5
    if Path(tmp_path / place).exists():
        assert "".join(Trace.open(tmp_path / place).texts(1)).encode() == text[:-1]
        assert b"recorded in " in stderr
    else:
        assert b"nothing is recorded" in stderr and b"recorded in" not in stderr.replace(b"nothing is recorded", b"")
