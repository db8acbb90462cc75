"""A recorded run comes back token by token, in its own time."""

import sqlite3

import fake_engine
import pytest
from msgspec.structs import replace
from recordings import LAYERS, RATE, lengthened, recorded, session

from tui_entropy.core.errors import UserError
from tui_entropy.records.events import Continued, Ended, Failed, Labelled, Paused, Prefilled, Switched
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.trace.playback import MAX_GAP_S, SPEEDS, Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.capture.film import Clock

FIRST_TOKEN = 0.5
"""Seconds after the run began, in recordings.session."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("traces") / "one.tui")


def played(file, **options):
    clock = Clock()
    return Playback(Trace.open(file), clock=clock, **options), clock


def after(playback, clock, seconds):
    """How many tokens are there so much later."""
    clock.now += seconds
    playback.advance()
    return len(playback.log.steps)


@pytest.mark.parametrize("speed", [1.0, 2.0, 0.25])
def test_a_token_is_there_when_it_was_there_then_at_that_speed(file, speed):
    playback, clock = played(file, speed=speed)
    assert after(playback, clock, 0.99 * FIRST_TOKEN / speed) == 0
    assert after(playback, clock, 0.02 * FIRST_TOKEN / speed) == 1
    assert after(playback, clock, 10 / RATE / speed) == 11
    assert playback.wait == pytest.approx((1 / RATE - 0.01 * FIRST_TOKEN) / speed)


def test_nobody_looking_for_a_while_loses_nothing(file):
    playback, clock = played(file)
    assert after(playback, clock, 100) == 40
    assert playback.at_end and playback.wait is None
    assert (playback.log.state, playback.log.note) == ("ended", "end of text")


def test_the_log_is_at_every_token_what_the_engine_had_told_by_then(file):
    playback, _ = played(file)
    heats, on = [], []
    for _ in range(40):
        playback.step()
        heats.append(playback.log.knobs.temperature)
        on.append(playback.log.vectors[0].on)
        assert len(playback.log.marks) == (heats[-1] != 0.7) + on[-1]
    assert heats == [0.7] * 10 + [1.2] * 30
    assert on == [False] * 20 + [True] * 20
    assert playback.log.prefilled.done == 3


def test_what_it_holds_is_what_was_recorded(file):
    recorded_steps = [event for event in session() if isinstance(event, Step)]
    playback, _ = played(file, first=None)
    assert [step.text for step in playback.log.steps] == [step.text for step in recorded_steps]
    assert playback.log.steps[17].entropy == recorded_steps[17].entropy
    assert playback.log.steps.texts == [step.text for step in recorded_steps]


def test_a_pause_stops_its_time_and_a_step_goes_one_token_on(file):
    playback, clock = played(file)
    after(playback, clock, FIRST_TOKEN + 1.4 / RATE)
    playback.pause()
    assert after(playback, clock, 60) == 2 and playback.wait is None and playback.log.state == "paused"
    playback.step()
    assert after(playback, clock, 60) == 3 and playback.log.state == "paused"
    playback.go_on()
    assert playback.log.state == "writing" and after(playback, clock, 0.9 / RATE) == 3
    assert after(playback, clock, 0.2 / RATE) == 4


def test_the_rest_of_a_wait_goes_on_after_a_pause(file):
    playback, clock = played(file)
    after(playback, clock, FIRST_TOKEN + 0.4 / RATE)
    playback.pause()
    clock.now += 60
    playback.go_on()
    assert playback.wait == pytest.approx(0.6 / RATE)


def test_another_speed_takes_effect_within_a_wait(file):
    playback, clock = played(file)
    after(playback, clock, FIRST_TOKEN + 0.5 / RATE)
    playback.faster(1)
    assert playback.speed == 2 and playback.wait == pytest.approx(0.25 / RATE)
    for _ in SPEEDS:
        playback.faster(1)
    assert playback.speed == SPEEDS[-1]
    for _ in SPEEDS:
        playback.faster(-1)
    assert playback.speed == SPEEDS[0]


def test_it_can_be_sought_in_both_directions(file):
    playback, clock = played(file, first=None)
    for n in (30, 5, 0, 40, 12):
        playback.seek(n)
        assert len(playback.log.steps) == n
        assert playback.log.state == {0: "reading", 40: "ended"}.get(n, "writing")
    assert playback.log.knobs.temperature == 1.2
    assert after(playback, clock, 1.01 / RATE) == 13


def test_a_recorded_pause_is_shown_and_shortened(tmp_path, monkeypatch):
    events = session(20)
    events[5:5] = [Paused(1, "by you"), Continued(1)]
    wall = iter(range(0, 10_000, 100))
    monkeypatch.setattr("tui_entropy.trace.writer.time.time", lambda: float(next(wall)))
    playback, clock = played(recorded(tmp_path / "a.tui", *events))
    assert after(playback, clock, FIRST_TOKEN + 2.1 / RATE) == 3
    assert (playback.log.state, playback.log.note) == ("paused", "by you")
    assert after(playback, clock, MAX_GAP_S) == 3 and playback.log.state == "writing"
    assert after(playback, clock, 1 / RATE) == 4


def test_a_run_that_was_cut_off_says_so(tmp_path):
    events = [event for event in session(12) if not isinstance(event, Ended)]
    playback, _ = played(recorded(tmp_path / "cut.tui", *events), first=None)
    assert (playback.log.state, playback.log.note) == ("ended", "the recording ends here")
    assert len(playback.log.steps) == 12


def test_each_run_has_its_own_events(tmp_path):
    second = [*session(7, run=2)[:-1], Failed("the engine died", fatal=True)]
    file = recorded(tmp_path / "two.tui", *session(25), *second)
    playback, _ = played(file, first=None)
    assert playback.run == 2 and len(playback.log.steps) == 7
    assert (playback.log.state, playback.log.note) == ("failed", "the engine died")
    playback.choose(1, None)
    assert len(playback.log.steps) == 25 and playback.log.note == "end of text"
    with pytest.raises(UserError, match=r"has no run 3: it has 1, 2"):
        playback.choose(3, 0)


def test_nonsense_times_make_nobody_wait(tmp_path):
    steps = [fake_engine.step(i, 3, LAYERS, 9) for i in range(4)]
    ats = [1.0, float("nan"), -5.0, 1.5]
    file = recorded(
        tmp_path / "odd.tui", session()[0], *(replace(s, at=at) for s, at in zip(steps, ats, strict=True))
    )
    playback, clock = played(file)
    assert after(playback, clock, 1.0) == 3


def test_without_a_run_there_is_nothing_to_show(tmp_path):
    file = recorded(tmp_path / "empty.tui")
    with sqlite3.connect(file) as db:
        db.execute("DELETE FROM events")
    with pytest.raises(UserError, match="holds no run"):
        Playback(Trace.open(file))


def test_a_long_recording_is_opened_without_reading_its_steps(tmp_path, monkeypatch):
    file = lengthened(recorded(tmp_path / "long.tui", *session(64)), 100_000, arrays=False)
    read = []
    monkeypatch.setattr(Trace, "steps", lambda *a: read.append("step") or iter(()))
    monkeypatch.setattr(Trace, "columns", lambda *a: read.append("columns") or [])
    playback, _ = played(file, first=None)
    assert len(playback.log.steps) == 100_000 and read == []


# --- Branches --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    """Run 2 goes on from 15 steps of run 1 with another temperature, and is gone back to after run 3; run 4 is its
    twin."""
    first, second = session(25), [e for e in session(40, run=2) if isinstance(e, Step)]
    third, fourth = session(7, run=3), [e for e in session(40, run=4) if isinstance(e, Step)]
    branch = replace(first[0], run=2, parent=1, shared=15, knobs=Knobs(temperature=0.3))
    events = [
        *first,
        branch,
        *second[15:18],
        Paused(2, "by you"),
        Labelled(2, "colder", True),
        *third,
        Switched(2),
        Continued(2),
        replace(branch, run=4, parent=2, shared=18, twin_of=2),
        *(step for pair in zip(second[18:22], fourth[18:22], strict=True) for step in pair),
        Ended(2, "stopped"),
    ]
    return recorded(tmp_path_factory.mktemp("forest") / "four.tui", *events)


def test_a_branch_plays_what_it_shares_as_it_was_and_then_its_own(forest):
    playback, _ = played(forest, run=2)
    frames = []
    while not playback.at_end:
        playback.step()
        log = playback.log
        frames.append((log.run_number, log.knobs.temperature, log.steps[-1].run, log.twin is not None))
    assert frames == [(1, 0.7, 1, False)] * 10 + [(1, 1.2, 1, False)] * 5 + [(2, 0.3, 2, False)] * 3 + [
        (2, 0.3, 2, True)
    ] * 4 + [(2, 0.3, 2, True)]
    assert playback.length == 22 and (playback.log.state, playback.log.note) == ("ended", "stopped")
    for n in (16, 3, 22):
        playback.seek(n)
        assert len(playback.log.steps) == n and playback.log.run_number == (1 if n <= 15 else 2)


def test_every_run_is_known_while_one_is_played_and_its_twin_grows_with_it(forest):
    playback, _ = played(forest, run=2, first=16)
    runs = playback.log.runs
    assert list(runs) == [1, 2, 3, 4] and (runs[2].name, runs[2].starred) == ("colder", True)
    assert [len(runs[run].steps) for run in (2, 3, 4)] == [16, 7, 22]
    for n in range(19, 23):
        playback.seek(n)
        assert len(playback.log.twin.steps) == n - (n < 22) and playback.log.twin.started.run == 4
    playback.choose(4, None)
    assert playback.log.run_number == 4 and len(playback.log.steps) == 22 and playback.log.twin is None


def test_a_run_is_played_to_its_own_end_whatever_went_on_from_it(forest):
    playback, _ = played(forest, run=1, first=None)
    assert len(playback.log.steps) == 25 and playback.log.note == "end of text"
    assert [step.run for step in playback.log.steps] == [1] * 25


def test_what_is_read_for_a_twin_makes_nobody_wait_and_the_twin_is_shown_as_far_as_it_had_come(tmp_path):
    first, second = session(25), [e for e in session(40, run=2) if isinstance(e, Step)]
    begun, steps = first[0], [e for e in first if isinstance(e, Step)]
    reading = [Prefilled(2, n, 30, 5.0 + n / 10) for n in range(1, 31)]
    file = recorded(
        tmp_path / "twin.tui",
        begun,
        *steps[:10],
        replace(begun, run=2, parent=1, shared=10, twin_of=1),
        *reading,
        *(step for pair in zip(steps[10:20], second[10:20], strict=True) for step in pair),
        Ended(1, "stopped"),
    )
    playback, clock = played(file, run=1, first=0)
    seconds = 0.0
    while not playback.at_end:
        clock.now += (wait := playback.wait or 0.0) + 1e-6
        seconds += wait
        playback.advance()
        if playback.log.twin is not None and not playback.at_end:
            assert len(playback.log.twin.steps) <= len(playback.log.steps) + 1
    assert seconds < steps[19].at + MAX_GAP_S + 30 / 10 + 1
