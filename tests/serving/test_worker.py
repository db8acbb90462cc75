"""The engine as a process: what it is told, what it answers, and what cannot bring it down."""

import os
import signal
from pathlib import Path

import pytest
from asking import fan_ask, rows_ask, step_ask
from msgspec.structs import replace
from small import saved
from worker_engine import ENDLESS, Engine

from tui_entropy.records.commands import (
    Advance,
    Branch,
    Continue,
    Follow,
    Go,
    Label,
    Load,
    Pause,
    Quit,
    SetKnobs,
    SetShadow,
    SetVector,
    Stop,
    Twin,
)
from tui_entropy.records.events import (
    Continued,
    Ended,
    Failed,
    KnobsChanged,
    Labelled,
    Memory,
    Paused,
    Prefilled,
    Proposed,
    Ready,
    Refused,
    ShadowChanged,
    Started,
    Switched,
)
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.attention_rows import AttentionRows
from tui_entropy.records.probes.continuations import SampledContinuations
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane, Vector
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.transport import connection


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    found = Engine(folder)
    found.end.send(Load(ModelSpec(str(saved(folder / "model"))), keep=60))
    yield found
    found.close()


def test_it_loads_writes_pauses_steps_and_goes_on(engine):
    ready = engine.until(Ready)
    assert ready.card.n_layers == 4 and ready.card.device == "cpu"
    engine.end.send(ENDLESS)
    engine.until(Step, 3)
    kinds = [type(event) for event in engine.heard]
    assert kinds.index(Started) < kinds.index(Prefilled) < kinds.index(Step) and Memory in kinds

    engine.end.send(Pause())
    assert engine.until(Paused).reason == "by you"
    written = sum(isinstance(event, Step) for event in engine.heard)
    assert engine.until(Proposed).step.index == written
    assert engine.end.receive(0.3) == []

    engine.end.send(Advance(2))
    assert engine.until(Paused).reason == "after a step"
    assert sum(isinstance(event, Step) for event in engine.heard) == written + 2

    before = engine.until(Proposed).step
    engine.end.send(SetKnobs(replace(ENDLESS.knobs, temperature=0.5)))
    turned = engine.until(KnobsChanged)
    after = engine.until(Proposed).step
    assert after.candidates[0].logprob == before.candidates[0].logprob
    assert after.candidates[0].final_prob > before.candidates[0].final_prob
    engine.end.send(Continue())
    assert engine.until(Step) == after
    assert turned.index == written + 2 and turned.knobs.temperature == 0.5
    assert any(isinstance(event, Continued) for event in engine.heard)

    engine.end.send(Stop())
    assert engine.until(Ended).reason == "stopped"


def test_a_new_prompt_takes_the_place_of_the_old_without_loading_again(engine):
    engine.end.send(ENDLESS)
    first = engine.until(Started)
    engine.end.send(replace(ENDLESS, prompt="KLM"))
    second = engine.until(Started)
    assert second.run == first.run + 1 and len(second.prompt_tokens) < len(first.prompt_tokens)
    engine.until(Step)
    assert not any(isinstance(event, Ready) for event in engine.heard[engine.heard.index(second) :])


def test_attention_rows_are_answered_while_it_writes(engine):
    engine.end.send(ENDLESS)
    newest = engine.until(Step, 5)
    engine.end.send(rows_ask(2, None, newest.position - 1, 3, 0, 64, newest.run))
    rows = AttentionRows.of(engine.until(ProbeAnswer))
    assert rows.queries == tuple(range(newest.position - 3, newest.position))
    for row, elsewhere in zip(rows.weights.rows(), rows.elsewhere, strict=True):
        assert sum(weight for weight in row if weight == weight) + elsewhere == pytest.approx(1, abs=1e-5)


def test_what_it_cannot_do_is_answered_in_a_sentence_and_it_writes_on(engine):
    engine.end.send(ENDLESS)
    engine.until(Step)
    engine.end.send(Pause())
    for command in (
        SetKnobs(Knobs(top_p=-1)),
        SetVector(Vector("x", "/nowhere/x.gguf", on=True)),
        replace(ENDLESS, prompt="A" * 1000),
        replace(ENDLESS, chat=True),
    ):
        engine.end.send(command)
        sentence = engine.until(Refused).sentence
        assert "\n" not in sentence and "Traceback" not in sentence and len(sentence) > 20
    engine.end.send(Continue())
    engine.until(Step)


def test_a_text_that_nobody_watched_is_the_same_as_one_that_was_watched(engine):
    write = replace(ENDLESS, max_tokens=120)
    engine.end.send(write)
    first = engine.until(Started)
    engine.until(Ended)
    watched = [event for event in engine.heard if isinstance(event, Step) and event.run == first.run]
    engine.end.send(write)
    engine.until(Step, 5)
    engine.end.close()
    engine.end = connection.connect(engine.socket)
    engine.end.send(Follow())
    again = SessionView()
    while again.state != "ended" or again.run_number != first.run + 1:
        for event in engine.end.receive(5):
            again.append(event)
    assert [step.token_id for step in again.steps] == [step.token_id for step in watched]
    for step, one in zip(again.steps, watched, strict=True):
        assert (step.entropy, step.blocks, step.text) == (one.entropy, one.blocks, one.text)


def test_one_branches_off_goes_back_and_reconsiders(engine):
    engine.end.send(replace(ENDLESS, max_tokens=40))
    first = engine.until(Started)
    engine.until(Ended)
    written = [event for event in engine.heard if isinstance(event, Step) and event.run == first.run]
    engine.end.send(Branch(first.run, 10, text="KL", pause=True))
    branch = engine.until(Started)
    assert (branch.parent, branch.shared, branch.how) == (first.run, 10, "kept")
    assert engine.until(Paused).reason == "after a step"
    assert engine.until(Proposed).step.index == 12
    engine.end.send(Branch(branch.run, 12, pause=True, ban=(written[12].token_id,)))
    assert engine.until(Proposed).step.stages[0].name == "banned"
    engine.end.send(Continue())
    engine.until(Ended)
    engine.end.send(Go(first.run))
    assert engine.until(Switched).run == first.run
    engine.end.send(Branch(first.run, 40, pause=True))
    again = engine.until(Started)
    assert again.shared == 40 and engine.until(Proposed).step.index == 40
    engine.end.send(step_ask(first.run, written[7].position, ENDLESS.knobs))
    assert engine.until(ProbeAnswer).panels[0].candidates == written[7].candidates
    engine.end.send(Label(branch.run, name="other"))
    assert engine.until(Labelled).name == "other"
    engine.end.send(rows_ask(1, 1, 12, 4, 0, 16, first.run))
    assert AttentionRows.of(engine.until(ProbeAnswer)).queries == (9, 10, 11, 12)
    for command in (Branch(99, 0), Go(99), Label(again.run, deleted=True), step_ask(first.run, 999, ENDLESS.knobs)):
        engine.end.send(command)
        assert len(engine.until(Refused).sentence) > 20
    memory = next(event for event in reversed(engine.heard) if isinstance(event, Memory))
    assert 0 < memory.kept <= memory.bound == 1 << 30
    ready = next(event for event in engine.heard if isinstance(event, Ready))
    assert ready.rewinds == "by cropping its cache, exact"


def test_a_model_that_is_not_there_is_fatal_in_a_sentence(tmp_path, preloaded):
    other = Engine(tmp_path, preloaded.words("engine"))
    other.end.send(Load(ModelSpec(str(tmp_path / "nothing"))))
    failed = other.until(Failed)
    assert failed.fatal and "nothing" in failed.sentence and "\n" not in failed.sentence
    other.end.send(Quit())
    assert other.process.wait(10) == 0
    other.close()


def test_it_keeps_its_noise_to_its_log_and_leaves_nothing_when_it_is_told_to_end(tmp_path):
    other = Engine(tmp_path)
    other.end.send(Pause())
    assert "no model" in other.until(Refused).sentence
    assert os.stat(other.log).st_mode & 0o077 == 0
    fds = Path(f"/proc/{other.process.pid}/fd")
    if fds.exists():
        assert {os.readlink(fds / "1"), os.readlink(fds / "2")} == {str(other.log)}
        assert os.getpriority(os.PRIO_PROCESS, other.process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
    other.end.send(Quit())
    assert other.process.wait(10) == 0
    assert not list((tmp_path / "private").iterdir()) and not other.log.exists()
    other.close()


def test_a_killed_engine_is_noticed_at_once(tmp_path):
    other = Engine(tmp_path)
    os.kill(other.process.pid, signal.SIGKILL)
    with pytest.raises(connection.LinkClosed):
        while other.end.receive(5):
            pass
    other.close()


def test_lanes_and_fans_are_asked_for_as_anything_else(engine):
    engine.end.send(ENDLESS)
    newest = engine.until(Step, 3)
    hotter = Lane("hotter", knobs=replace(ENDLESS.knobs, temperature=1.5))
    engine.end.send(SetShadow(hotter))
    assert engine.until(ShadowChanged).lane == hotter
    assert engine.until(Step, 2).shadow is not None

    position = newest.position - newest.index + 2
    engine.end.send(fan_ask(newest.run, position, n=3, tokens=4))
    found = engine.until(ProbeAnswer)
    fanned = SampledContinuations.of(found)
    assert (found.run, found.position, len(fanned.rows)) == (newest.run, position, 3)
    assert all(len(row.token_ids) == 4 or row.ended for row in fanned.rows)

    engine.end.send(Twin(newest.run, 2, hotter))
    twin = engine.until(Started)
    while twin.twin_of is None:
        twin = engine.until(Started)
    runs = [engine.until(Step).run for _ in range(6)]
    assert set(runs) == {twin.run, twin.twin_of} and runs[0] != runs[1]
