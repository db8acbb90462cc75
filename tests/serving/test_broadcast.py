"""Several screens on one engine: what each hears, who commands, what leaving means, and who is let go."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fake_engine
import pytest
import scripted
from asking import rows_ask
from msgspec.structs import replace
from recorded import on_device, session
from watchers import LOAD, Watcher, started, wanted

from tui_entropy.records.commands import Advance, Follow, SetKnobs, Stop, TakeControl
from tui_entropy.records.events import (
    Dismissed,
    Ended,
    KnobsChanged,
    Paused,
    Proposed,
    Ready,
    Refused,
    Started,
    Switched,
)
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.serving import broadcast
from tui_entropy.serving.broadcast import Broadcaster
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace
from tui_entropy.transport import connection


@pytest.fixture
def engine(own_folders):
    """Starts a scripted engine that has loaded, and the first screen of it."""
    running = []

    def make(load=LOAD, rate=300) -> tuple[Path, Watcher]:
        running.append(started("--rate", str(rate)))
        first = Watcher(running[-1].socket)
        first.send(load)
        first.until(Ready)
        return running[-1].socket, first

    make.processes = running
    yield make
    for each in running:
        each.process.kill()
        each.process.wait()


def undisturbed(n: int) -> list[str]:
    return [fake_engine.step(i, 3, 2, 2, 5).text for i in range(n)]


def left(socket: Path, screen: Watcher) -> None:
    """Close a screen, and wait until its engine has noticed."""
    screen.close()
    for _ in range(200):
        if Watcher(socket, None).standing.screens == 0:
            return
        time.sleep(0.01)
    raise AssertionError("the engine did not notice")


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


# --- Who commands ----------------------------------------------------------------------------------------------


def test_who_watches_is_refused_in_a_sentence_but_for_questions_which_only_they_hear_the_answer_of(engine):
    socket, first = engine()
    first.send(wanted())
    first.until(Step)
    second = Watcher(socket)
    second.until(Step)
    for command in (Stop(), SetKnobs(Knobs(temperature=2.0)), wanted(), broadcast.Quit()):
        second.send(command)
        assert "ctrl+g" in second.until(Refused).sentence
    second.send(rows_ask(1, None, 3, 2, 0, 4))
    assert second.until(ProbeAnswer).panels[0].rows.positions == (2, 3)
    first.send(Advance(1))
    first.until(Paused)
    assert not any(isinstance(event, ProbeAnswer | Refused) for event in first.heard)
    assert first.log.started.run == 1 and first.log.knobs.temperature == 0.7


def test_control_is_taken_and_everyone_is_told(engine):
    socket, first = engine()
    second = Watcher(socket)
    second.until(lambda: second.standing.screens == 2)
    assert not second.standing.in_control
    first.until(lambda: first.standing.screens == 2)
    assert first.standing.in_control
    second.send(TakeControl(), wanted(5))
    second.until(Ended)
    first.until(Ended)
    assert second.standing.in_control and not first.standing.in_control
    first.send(Stop())
    first.until(Refused)


def test_control_passes_on_when_its_screen_goes(engine):
    socket, first = engine()
    second, third = Watcher(socket), Watcher(socket)
    third.until(lambda: third.standing.screens == 3)
    first.close()
    second.until(lambda: second.standing.in_control)
    third.until(lambda: third.standing.screens == 2)
    assert not third.standing.in_control


def test_who_only_asks_is_no_screen_and_takes_no_control(engine):
    socket, first = engine()
    asking = Watcher(socket, None).standing
    assert (asking.screens, asking.in_control, asking.state, asking.model) == (1, False, "ready", LOAD.model)
    assert asking.pid == engine.processes[0].process.pid and asking.engine == socket.stem
    guest = Watcher(socket, guest=True)
    guest.until(Ready)
    assert guest.standing.screens == 1
    first.close()
    guest.send(wanted(3))  # nobody is in control now
    guest.until(Ended)


# --- Leaving ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_leave", "state"), [("write", "writing"), ("pause", "paused"), ("stop", "ended")])
def test_leaving_does_what_was_set_for_it(engine, on_leave, state):
    socket, first = engine(replace(LOAD, on_leave=on_leave))
    first.send(wanted())
    first.until(Step)
    left(socket, first)
    now = Watcher(socket, None).standing
    assert now.state == state
    again = Watcher(socket)
    again.until(lambda: again.log.state == state)
    if on_leave == "write":
        again.until(lambda: len(again.steps) > now.tokens)


def test_while_one_screen_stays_nothing_changes(engine):
    socket, first = engine(replace(LOAD, on_leave="pause", keep=0))
    second = Watcher(socket)
    first.send(wanted())
    second.until(Step)
    first.close()
    count = len(second.steps)
    second.until(lambda: len(second.steps) > count + 50)
    assert second.log.state == "writing"


@pytest.mark.parametrize("keep", [0.0, 0.3])
def test_an_engine_that_nobody_watches_ends_itself_in_time_and_its_record_is_whole(engine, tmp_path, keep):
    trace = tmp_path / "a.tui"
    socket, first = engine(replace(LOAD, keep=keep, trace=str(trace)))
    first.send(wanted())
    first.until(Step)
    assert Watcher(socket, None).standing.trace == str(trace)
    began = time.monotonic()
    first.close()
    assert engine.processes[0].process.wait(5) == 0
    assert keep <= time.monotonic() - began < keep + 2
    assert not socket.exists() and not engine.processes[0].log.exists()
    recorded = Trace.open(trace).log()
    assert (recorded.state, recorded.note) == ("ended", "stopped")
    assert recorded.steps.texts == undisturbed(len(recorded.steps))


def test_coming_back_and_looking_in_are_not_the_same(engine):
    socket, first = engine(replace(LOAD, keep=0.5))
    first.close()
    time.sleep(0.3)
    second = Watcher(socket)
    second.until(Ready)
    time.sleep(0.4)
    assert Watcher(socket, None).standing.screens == 1
    second.close()
    with suppress(OSError):  # looking in keeps nothing alive
        for _ in range(5):
            time.sleep(0.15)
            connection.connect(socket).close()
    assert engine.processes[0].process.wait(2) == 0


def test_an_engine_that_is_never_told_anything_does_not_stay(own_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(broadcast, "FIRST_COMMAND_TIMEOUT_S", 0.05)
    here = Broadcaster(tmp_path / "run" / "x.sock")
    assert [type(command) for command in here.hear(wait=True)] == [broadcast.Quit]
    here.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_hangup_is_not_for_it_and_a_request_to_end_is_obeyed_cleanly(engine, number):
    socket, first = engine()
    first.send(wanted())
    first.until(Step)
    os.kill(engine.processes[0].process.pid, number)
    if number == signal.SIGHUP:
        count = len(first.steps)
        first.until(lambda: len(first.steps) > count + 20)
    else:
        assert "ended" in first.until(Dismissed).sentence
        assert engine.processes[0].process.wait(5) == 0 and not socket.exists()


# --- Screens that do not read ----------------------------------------------------------------------------------


def test_a_screen_that_never_reads_is_let_go_with_a_reason_and_nobody_waits_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(broadcast, "MAX_BACKLOG_BYTES", 2**20)
    here = Broadcaster(tmp_path / "run" / "x.sock")
    stuck, reading = connection.connect(here.path), connection.connect(here.path)
    for end in (stuck, reading):
        end.send(Follow())
    for _ in range(4):
        list(here.hear(wait=False))
    heard = []
    for number in range(200):
        here.emit(Refused(f"{number:<50000}"))
        list(here.hear(wait=False))
        heard += reading.receive()
    while len([event for event in heard if isinstance(event, Refused)]) < 200:
        list(here.hear(wait=False))
        heard += reading.receive(0.1)
    assert all(watcher.link.backlog < 2**20 for watcher in here._clients)
    late = []
    while not late or not isinstance(late[-1], Dismissed):
        late += stuck.receive(0.1)
        list(here.hear(wait=False))
    numbers = [int(event.sentence) for event in late if isinstance(event, Refused)]
    assert numbers == list(range(len(numbers))) and len(numbers) < 200  # whole messages up to where it was let go
    assert "did not read" in late[-1].sentence and "attach x" in late[-1].sentence
    for end in (stuck, reading, here):
        end.close()


def test_a_screen_that_never_reads_what_it_missed_holds_nothing_up(engine):
    socket, first = engine(rate=2000)
    first.send(wanted(2000))
    first.until(lambda: len(first.steps) > 500)
    Watcher(socket)  # asks for everything, and reads nothing of it
    first.until(Ended)
    assert len(first.steps) == 2000
