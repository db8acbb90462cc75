"""Engines on this machine: found by their sockets, asked, cleared away when dead, and how they ended."""

import os
import shlex
import sys
import time
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace
from terminal import Terminal
from watchers import FAKE, LOAD, Watcher, started, wanted

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Continue, SetKnobs
from tui_entropy.records.events import Ended, Failed, Paused, Progress, Ready, Refused, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint
from tui_entropy.transport import discovery
from tui_entropy.transport.discovery import how_it_ended, last_line, lifetime_options, reattach_hint
from tui_entropy.transport.durations import duration, seconds


@pytest.fixture(autouse=True)
def running(own_folders):
    made = []

    def make(*options: str) -> discovery.Started:
        made.append(started(*options))
        return made[-1]

    yield make
    for each in made:
        each.process.kill()
        each.process.wait()


def test_where_nothing_ever_ran_nothing_runs():
    assert discovery.running() == []


def test_engines_are_found_and_say_how_they_stand(running):
    first, second = running(), running()
    watcher = Watcher(first.socket)
    watcher.send(LOAD)
    watcher.until(Ready)
    Watcher(second.socket, None).until(lambda: True)
    found = {engine.id: engine for engine in discovery.running()}
    assert set(found) == {first.id, second.id}
    assert found[first.id].standing.model.name == "toy" and found[first.id].standing.screens == 1
    assert found[second.id].standing.state == "starting" and found[second.id].standing.model is None


def test_one_that_is_too_busy_to_answer_is_listed_and_not_waited_for(running, monkeypatch):
    monkeypatch.setattr(discovery, "STATUS_TIMEOUT_S", 0.1)
    busy = running("--load-seconds", "20")
    watcher = Watcher(busy.socket)
    watcher.send(LOAD)
    time.sleep(0.2)
    began = time.monotonic()
    (found,) = discovery.running()
    assert found == discovery.Engine(busy.socket, None) and time.monotonic() - began < 1


def test_what_dead_engines_left_is_removed_and_nothing_else(running):
    killed = running()
    watcher = Watcher(killed.socket)
    watcher.send(LOAD)
    watcher.until(Ready)
    other = killed.socket.with_name("note.txt")
    other.write_text("mine")
    fake = killed.socket.with_name("file.sock")
    fake.write_text("no socket")
    assert killed.socket.with_suffix(".tui").exists()
    killed.process.kill()
    killed.process.wait()
    assert discovery.running() == []
    assert set(killed.socket.parent.iterdir()) == {other, fake}


def test_only_the_owner_can_reach_an_engine(running):
    socket = running().socket
    Watcher(socket, None)
    assert socket.stat().st_mode & 0o777 == 0o600 and socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_open_is_not_trusted():
    paths.sockets().mkdir(parents=True)
    paths.sockets().chmod(0o755)
    with pytest.raises(UserError, match="chmod 700"):
        discovery.running()


def test_an_engine_has_a_session_of_its_own_and_no_terminal(running):
    process = running().process
    assert os.getsid(process.pid) == process.pid
    assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"


@pytest.mark.parametrize(
    ("typed", "wanted"), [("0", 0), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("0s", 0), ("12h", 43200)]
)
def test_times_are_read(typed, wanted):
    assert seconds(typed) == wanted


@pytest.mark.parametrize("typed", ["", "30", "m", "-1m", "1d", "nan", "infs", "1 h"])
def test_what_is_no_time_shows_how_one_looks(typed):
    with pytest.raises(UserError, match="30m"):
        seconds(typed)


def test_what_is_set_for_leaving_is_checked():
    assert lifetime_options("1m", "pause") == {"keep": 60, "on_leave": "pause", "kept_cache": 1 << 30}
    assert (
        lifetime_options("1m", "pause", "1.5MiB")["kept_cache"] == 3 << 19
        and not lifetime_options("0", "stop", "0")["kept_cache"]
    )
    with pytest.raises(UserError):
        lifetime_options("1m", "pause", "much")
    with pytest.raises(UserError, match="write, pause, stop"):
        lifetime_options("1m", "sleep")


def test_times_are_told_in_words():
    assert [duration(each) for each in (0, 1, 90, 1800, 3600, 5400)] == [
        "0 seconds", "1 second", "1.5 minutes", "30 minutes", "1 hour", "1.5 hours"
    ]  # fmt: skip
    assert reattach_hint("abcd", 60).endswith(
        "`tui-entropy stop abcd` ends it, and so does 1 minute with nobody attached"
    )


@pytest.mark.parametrize(
    ("code", "why", "last", "said"),
    [
        (-9, "", "", "lack of memory"),
        (-11, "", "segmentation", "SIGSEGV: segmentation"),
        (1, "", "ImportError: torch", "code 1: ImportError: torch"),
        (None, "a message of 9 bytes", "", "a message of 9 bytes"),
    ],
)
def test_how_it_ended(code, why, last, said):
    assert said in how_it_ended(code, why, last)


def test_the_last_line_of_a_log_has_no_control_characters(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"first\n\x1b[31mlast\x07 one\xff\n\n  \n")
    assert last_line(log) == "[31mlast one\ufffd"
    assert last_line(tmp_path / "none") == ""


# --- What engines leave, and what others put in their way --------------------------------------------------------


def test_logs_are_for_this_user_alone_and_of_a_killed_engine_gone_when_another_starts(running):
    killed, alive = running(), running()
    for each in (killed, alive):
        Watcher(each.socket, None).until(lambda: True)
        assert each.log.stat().st_mode & 0o777 == 0o600
    other = killed.log.with_name("failure-of-a-command.txt")
    other.write_text("mine")
    killed.process.kill()
    killed.process.wait()
    running()
    assert not killed.log.exists() and alive.log.exists() and other.exists()


def test_a_link_in_the_place_of_a_log_is_not_followed(running, tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "_new_id", lambda: "zzzz")
    (tmp_path / "mine").write_text("precious")
    paths.logs().mkdir(parents=True)
    discovery.log_of(paths.sockets() / "zzzz.sock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError):
        running()
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_link_in_the_place_of_the_folder_of_sockets_is_not_followed(running, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    paths.sockets().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        discovery.running()
    refused = running()
    assert refused.process.wait(30) == 1 and "is a link" in last_line(refused.log)
    assert not list((tmp_path / "elsewhere").iterdir())


# --- A screen that is gone before the model is there -------------------------------------------------------------


def wish(**options):
    return replace(LOAD, write=wanted(20), watches=("a b",), breakpoints=(Breakpoint(1, "step == 12"),), **options)


def test_an_engine_writes_what_was_wished_for_with_its_model_whoever_is_there_then(running):
    started = running("--load-seconds", "1")
    screen = Watcher(started.socket)
    screen.send(wish())
    screen.until(Progress)
    screen.close()
    again = Watcher(started.socket)
    again.until(Paused)
    assert len(again.steps) == 11 and again.log.started.prompt == "a b c" and len(again.steps[-1].watched) == 1
    again.send(Continue())
    again.until(Ended)
    assert [step.index for step in again.steps] == list(range(20))


def test_a_text_that_was_asked_for_meanwhile_takes_the_place_of_the_wish_under_the_knobs_set_since(running):
    started = running("--load-seconds", "1")
    screen = Watcher(started.socket)
    screen.send(wish())
    screen.until(Progress)
    screen.send(replace(wanted(5), prompt="d e"), SetKnobs(Knobs(temperature=1.25, n_candidates=5)))
    screen.until(Ended)
    begun = [event for event in screen.heard if isinstance(event, Started)]
    assert [(each.run, each.prompt, each.knobs.temperature) for each in begun] == [(1, "d e", 1.25)]
    assert len(screen.steps) == 5 and not screen.log.marks


def test_a_second_load_changes_nothing(running):
    started = running()
    screen = Watcher(started.socket)
    screen.send(LOAD)
    screen.until(Ready)
    screen.send(replace(LOAD, keep=0))
    assert "already" in screen.until(Refused).sentence
    screen.send(wanted(5))
    screen.until(Ended)
    assert Watcher(started.socket, None).standing.keep == 60


def test_an_engine_has_its_orders_from_the_start_and_needs_nobody_for_them(own_folders):
    begun = discovery.start([*FAKE, "--rate", "100"], wish())
    try:
        Watcher(begun.socket, None).close()  # it listens now
        end = time.monotonic() + 20
        while (standing := discovery.ask(begun.socket)) is None or standing.state != "paused":  # at the breakpoint
            assert time.monotonic() < end, standing
            time.sleep(0.05)
        screen = Watcher(begun.socket)
        screen.until(Paused)
        assert len(screen.steps) == 11 and screen.log.started.prompt == "a b c"
    finally:
        begun.process.kill()
        begun.process.wait()


def test_a_failure_before_anybody_came_is_told_to_whoever_comes(own_folders):
    begun = discovery.start([*FAKE, "--fail"], LOAD)
    try:
        time.sleep(2)
        assert Watcher(begun.socket).until(Failed).fatal
    finally:
        begun.process.kill()
        begun.process.wait()


def test_an_order_that_no_engine_takes_is_refused_before_one_is_started(own_folders):
    with pytest.raises(UserError, match="no engine can be told this"):
        discovery.start([*FAKE], replace(LOAD, keep=-1.0))
    assert not paths.sockets().exists() or not list(paths.sockets().iterdir())


def engine_of(screen: psutil.Process) -> tuple[psutil.Process, Path] | None:
    """The engine that a screen has started, with its socket, once its own command runs."""
    for child in screen.children():
        for word in child.cmdline():
            if word.endswith(".sock"):
                return child, Path(word)
    return None


@pytest.mark.pty
def test_a_screen_that_is_killed_before_it_reached_its_engine_leaves_the_text_to_it(own_folders):
    """Killed as soon as an engine's own command runs, which is long before it listens; a fork that has no terminal
    session of its own yet would go with the screen's."""
    command = [sys.executable, "-m", "tui_entropy", "--model", "toy", "-p", "a b c", "--max-tokens", "20"]
    env = {"TUI_ENTROPY_ENGINE": f"{shlex.join([*FAKE, '--rate', '100'])}", "TUI_ENTROPY_KEEP": "1m"}
    with Terminal(command, 100, 30, env=env) as terminal:
        screen, end = psutil.Process(terminal.process.pid), time.monotonic() + 60
        while (engine := engine_of(screen)) is None:
            assert time.monotonic() < end and screen.is_running()
        screen.kill()
        screen.wait(20)
    process, socket = engine
    try:
        again = Watcher(socket)
        again.until(Ended)
        assert len(again.steps) == 20 and again.log.started.prompt == "a b c"
    finally:
        process.kill()
