"""Several screens on one engine: what each hears, live, from the record, and of a forest of runs."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import scripted
from msgspec.structs import replace
from recorded import on_device, session
from watchers import LOAD, Watcher, undisturbed, wanted

from tui_entropy.records.commands import Follow, SetKnobs, TakeControl
from tui_entropy.records.events import (
    Ended,
    KnobsChanged,
    Paused,
    Proposed,
    Ready,
    Started,
    Switched,
)
from tui_entropy.records.step import Step
from tui_entropy.serving import broadcast
from tui_entropy.serving.broadcast import Broadcaster
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace
from tui_entropy.transport import connection

# --- What is heard ---------------------------------------------------------------------------------------------


def test_who_comes_back_hears_all_that_was_missed_once_and_in_order(engine):
    socket, first = engine()
    first.send(wanted(200))
    first.until(lambda: len(first.steps) > 20)
    first.close()
    again = Watcher(socket)
    again.until(Ended)
    assert [step.index for step in again.steps] == list(range(200))
    assert again.log.steps.texts == undisturbed(200)
    assert again.log.card is not None and again.log.state == "ended"


@pytest.mark.parametrize("kept", [False, True], ids=["passing record", "kept record"])
def test_record_and_live_events_meet_without_loss_or_doubling_whenever_one_attaches(engine, tmp_path, kept):
    socket, first = engine(replace(LOAD, trace=str(tmp_path / "a.tui") if kept else None))
    write = wanted(600, temperature=0.5)
    first.send(write)
    first.until(Step)
    came = []
    for turn in range(12):
        first.send(SetKnobs(replace(write.knobs, temperature=0.6 + turn / 10)))
        attaching = Watcher(socket, None)
        reading = Trace.open(Path(attaching.standing.trace))
        attaching.log, seq = reading.latest()
        known = len(attaching.log.steps)
        attaching.send(Follow(seq))
        came.append((attaching, reading, known))
        first.until(KnobsChanged)
    first.until(Ended)
    assert first.log.steps.texts == undisturbed(600) and len(first.log.knob_changes) == 13
    for attached, reading, known in came:
        attached.until(Ended)
        assert [step.index for step in attached.steps] == list(range(known, 600))
        assert attached.log.steps.texts == first.log.steps.texts
        assert attached.log.knob_changes == first.log.knob_changes and attached.log.marks == first.log.marks
        reading.close()
    assert len({known for _, _, known in came}) > 6  # they came at different moments


def test_two_screens_hear_the_same(engine):
    socket, first = engine()
    second = Watcher(socket)
    second.until(Ready)
    first.send(wanted(50))
    first.until(Ended)
    second.until(Ended)
    assert second.steps == first.steps


def test_the_record_of_an_engine_that_keeps_none_goes_with_it(engine):
    socket, _first = engine()
    asking = Watcher(socket, None)
    trace = Path(asking.standing.trace)
    assert trace.exists() and trace.stat().st_mode & 0o077 == 0
    asking.send(TakeControl(), broadcast.Quit())
    engine.processes[0].process.wait(5)
    assert not list(socket.parent.iterdir())


# --- A forest of runs ------------------------------------------------------------------------------------------


class Hearing:
    """A screen in this process, which hangs up when nobody has it any more, and the audience that it is part of."""

    def __init__(self, here: Broadcaster, follow: int = 0) -> None:
        self.here, self.end, self.log, self.heard = here, connection.connect(here.path), SessionView(), []
        self.end.send(Follow(follow))
        self.until(lambda: here._clients and here._clients[-1].live)

    def until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        quiet = False
        while not (quiet and what()):
            assert time.monotonic() < deadline, self.heard[-3:]
            list(self.here.hear(wait=False))
            new = self.end.receive(0.01)
            quiet = not new
            self.heard += new
            for event in new:
                self.log.append(event)

    @property
    def steps(self) -> list[tuple[int, int]]:
        return [(event.run, event.index) for event in self.heard if isinstance(event, Step)]

    def __del__(self) -> None:
        self.end.close()


@pytest.fixture
def here(tmp_path):
    """An audience whose record holds two texts, the second with two branches; the first branch is looked at."""
    made = Broadcaster(tmp_path / "run" / "x.sock")
    made.record(str(tmp_path / "a.tui"))
    for event in [*session(30, 20), branch(3, 2, 8), *(word(index, 3) for index in range(8, 12))]:
        made.emit(event)
    for event in [branch(4, 2, 5), *(word(index, 4) for index in range(5, 9)), Switched(3)]:
        made.emit(event)
    yield made
    made.close()


def word(index: int, run: int) -> Step:
    return on_device(index, run, f" w{index}")


def branch(run: int, parent: int, shared: int) -> Started:
    return replace(scripted.started(run), parent=parent, shared=shared)


def test_who_comes_hears_of_every_run_and_the_steps_of_the_text_that_is_looked_at(here):
    screen = Hearing(here)
    assert list(screen.log.runs) == [1, 2, 3, 4] and screen.log.run_number == 3
    assert set(screen.steps) == {*((2, index) for index in range(20)), *((3, index) for index in range(8, 12))}
    assert [step.index for step in screen.log.steps] == list(range(12))
    here.emit(word(12, 3))
    screen.until(lambda: len(screen.log.steps) == 13)


@pytest.mark.parametrize(
    "after",
    [[Switched(4), word(9, 4)], [branch(5, 1, 30), word(30, 5)], [branch(5, 4, 9), word(9, 5)]],
    ids=["gone to", "branched off", "a branch of a branch"],
)
@pytest.mark.parametrize("when", ["live", "while it is told"])
def test_steps_that_it_was_not_told_come_before_they_are_needed(here, after, when, monkeypatch):
    if when == "live":
        screen = Hearing(here)
        for event in after:
            here.emit(event)
    else:
        honest = broadcast.missing_events

        def late(watcher, recorder, seq):
            for number, event in enumerate(honest(watcher, recorder, seq)):
                for new in after if number == 30 else ():
                    here.emit(new)
                yield event

        monkeypatch.setattr(broadcast, "missing_events", late)
        screen = Hearing(here)
    screen.until(lambda: screen.log.run_number == after[0].run and here._clients[-1].live)
    whole = Trace.open(here._recorder.path).log()
    assert screen.log.run_number == whole.run_number and list(screen.log.runs) == list(whole.runs)
    assert list(screen.log.steps) == list(whole.steps) and screen.log.steps[-1] == after[-1]


def test_what_is_held_up_is_told_to_who_comes_as_long_as_it_is(here):
    here.emit(Paused(3, "by you"))
    here.emit(Proposed(word(12, 3)))
    assert Hearing(here).log.proposed == word(12, 3)
    here.emit(word(12, 3))
    screen = Hearing(here)
    assert screen.log.proposed is None and len(screen.log.steps) == 13
    here.emit(Proposed(word(13, 3)))
    here.emit(Switched(4))
    assert not any(isinstance(event, Proposed) for event in Hearing(here).heard)


def test_the_twin_is_known_and_what_is_held_up_in_both(here):
    here.emit(replace(branch(5, 3, 12), twin_of=3))
    for event in (word(12, 3), word(12, 5), Proposed(word(13, 3)), Proposed(word(13, 5))):
        here.emit(event)
    screen = Hearing(here)
    log = screen.log
    assert (log.run_number, log.twin.started.run, len(log.steps), len(log.twin.steps)) == (3, 5, 13, 13)
    assert (log.proposed, log.twin.proposed) == (word(13, 3), word(13, 5))
