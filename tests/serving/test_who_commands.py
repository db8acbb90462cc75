"""Who commands an engine, what leaving it means, and who is let go."""

import os
import signal
import time
from contextlib import suppress

import pytest
from asking import rows_ask
from msgspec.structs import replace
from watchers import LOAD, Watcher, left, undisturbed, wanted

from tui_entropy.records.commands import Advance, Follow, SetKnobs, Stop, TakeControl
from tui_entropy.records.events import (
    Dismissed,
    Ended,
    Paused,
    Ready,
    Refused,
)
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.serving import broadcast
from tui_entropy.serving.broadcast import Broadcaster
from tui_entropy.trace.reader import Trace
from tui_entropy.transport import connection

# --- What is heard ---------------------------------------------------------------------------------------------


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
