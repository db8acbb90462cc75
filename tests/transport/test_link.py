"""The link: typed messages, whole or not at all, and only for this user."""

import socket
import threading
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.core.errors import UserError
from tui_entropy.records.arrays import Grid
from tui_entropy.records.commands import Command, Pause, SetKnobs
from tui_entropy.records.events import Event, Progress, Refused
from tui_entropy.records.sampling import Knobs
from tui_entropy.transport import connection


@pytest.fixture
def ends():
    """Of an engine and of a screen."""
    left, right = socket.socketpair()
    with left, right:
        yield connection.Connection(left, Command), connection.Connection(right, Event)


def test_what_is_sent_arrives_in_order_and_typed(ends):
    engine, screen = ends
    screen.send(SetKnobs(Knobs(temperature=0.5)))
    screen.send(Pause())
    assert engine.receive(1) == [SetKnobs(Knobs(temperature=0.5)), Pause()]
    engine.send(Progress("loading", 1, 2))
    assert screen.receive(1) == [Progress("loading", 1, 2)]


def test_nothing_waits_when_nothing_came(ends):
    engine, _screen = ends
    assert engine.receive(0) == []


def test_a_message_larger_than_the_socket_takes_does_not_block_the_sender(ends):
    engine, screen = ends
    sentence = "x" * 5_000_000
    engine.send(Refused(sentence))
    assert engine.backlog > 0
    got = []
    while not got:
        got = screen.receive(0.01)
        engine.receive(0)
    assert got == [Refused(sentence)] and engine.backlog == 0


def test_last_words_are_heard_then_the_link_is_closed(ends):
    engine, screen = ends
    engine.send(Refused("bye"))
    engine.close()
    assert screen.receive(1) == [Refused("bye")]
    with pytest.raises(connection.LinkClosed):
        screen.receive(1)


@given(st.binary(min_size=1, max_size=64))
def test_garbage_closes_the_link_and_runs_nothing(garbage):
    left, right = socket.socketpair()
    with left, right:
        left.send(connection.LENGTH.pack(len(garbage)) + garbage)
        left.close()
        end = connection.Connection(right, Event)
        with pytest.raises(connection.LinkClosed):
            while True:
                end.receive(1)


def test_only_this_user_can_open_the_socket(tmp_path):
    path = tmp_path / "private" / "engine.sock"
    screens = []
    with connection.listen(path) as server:
        assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
        thread = threading.Thread(target=lambda: screens.append(connection.connect(path)))
        thread.start()
        thread.join()
        engine = connection.accept(server)
    with closing(engine), closing(screens[0]):
        screens[0].send(Pause())
        assert engine.receive(1) == [Pause()]


def test_a_folder_that_others_can_open_is_refused_in_a_sentence(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    with pytest.raises(UserError, match="chmod 700"):
        connection.listen(shared / "engine.sock")


def test_a_grid_is_read_without_numpy_and_gives_the_same_numbers():
    grid = Grid.of([[1.0, 2.5], [3.0, float("nan")]])
    assert grid.view[0, 1] == 2.5 and grid.rows()[1][0] == 3.0
    assert grid.numpy().shape == (2, 2) and not grid.numpy().flags.writeable
    assert Grid.of([]).shape == (0,) and Grid((0, 3), b"").rows() == []
