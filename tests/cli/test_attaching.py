"""Engines without a screen: started, listed, chosen, ended, reached on another machine."""

import shlex
import sys
import time
from contextlib import closing

import psutil
import pytest
from typer.testing import CliRunner
from watchers import FAKE, LOAD, Watcher, started, wanted

from tui_entropy.cli import app
from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.records.events import Dismissed, Ended, Paused, Ready
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.settings import Breakpoint
from tui_entropy.records.step import Step
from tui_entropy.trace.reader import Trace
from tui_entropy.transport import client, connection, discovery


@pytest.fixture(autouse=True)
def nothing_left(own_folders, monkeypatch):
    monkeypatch.setenv("TUI_ENTROPY_ENGINE", shlex.join(FAKE))
    monkeypatch.setattr(discovery, "STATUS_TIMEOUT_S", 0.2)
    before = set(psutil.Process().children())
    yield
    for each in set(psutil.Process().children()) - before:
        each.kill()
        each.wait()


def command(*arguments: str):
    return CliRunner().invoke(app, arguments, standalone_mode=False, catch_exceptions=False)


def serving(**options) -> str:
    return client.serve(FAKE, LOAD, wanted(**options), lambda _: None)


def test_an_engine_without_a_screen_writes_stays_and_is_ended():
    done = command("serve", "--headless", "--model", "toy", "--prompt", "a b c", "--max-tokens", "20", "--keep", "1m")
    (engine,) = discovery.running()
    assert done.stdout == f"{engine.id}\n" and f"tui-entropy attach {engine.id}" in done.stderr
    watcher = Watcher(engine.socket)
    watcher.until(Ended)
    assert len(watcher.steps) == 20 and watcher.log.started.prompt == "a b c"
    (row,) = command("attach", "--list").stdout.splitlines()[1:]
    assert row.split()[:5] == [engine.id, "toy", "ended", "20", "1"]
    pid = watcher.standing.pid
    command("stop", engine.id[:2])
    assert "ended" in watcher.until(Dismissed).sentence
    psutil.Process(pid).wait(5)
    assert command("attach", "--list").stdout == "No engine is running.\n"
    (trace,) = paths.traces().glob("*.tui")
    assert len(Trace.open(trace).log().steps) == 20


def test_one_that_starts_without_a_prompt_waits_for_one():
    name = client.serve(FAKE, LOAD, None, lambda _: None)
    (engine,) = discovery.running()
    assert (engine.id, engine.standing.state, engine.standing.screens) == (name, "ready", 0)


def test_breakpoints_and_watches_are_set_before_it_writes():
    stops = ("--break", "step == 3", "--watch", "a b", "--break", "rank > 10000")
    command("serve", "--model", "toy", "--prompt", "a b c", "--max-tokens", "20", "--keep", "1m", *stops)
    (engine,) = discovery.running()
    watcher = Watcher(engine.socket)
    watcher.until(Paused)
    log = watcher.log
    assert (log.state, log.note, log.stopped_by) == ("paused", "breakpoint: step == 3", 1)
    assert [(one.id, one.hits) for one in log.breakpoints] == [(1, 1), (2, 0)]
    assert [watch.text for watch in log.run.watches] == ["a b"]
    assert len(log.steps) == 2 and len(log.steps[1].watched) == 1


def test_a_breakpoint_that_this_model_has_no_layer_for_leaves_no_engine():
    with pytest.raises(UserError, match="from 1 to 2"):
        client.serve(FAKE, LOAD, None, lambda _: None, (Breakpoint(1, "norm[3] > 3"),))


def test_leaving_it_after_the_start_is_not_leaving_a_screen():
    client.serve(FAKE, LOAD.__class__(ModelSpec("toy"), keep=60, on_leave="pause"), wanted(), lambda _: None)
    (engine,) = discovery.running()
    watcher = Watcher(engine.socket)
    watcher.until(Step)
    assert watcher.log.state == "writing"
    watcher.until(lambda: watcher.standing.in_control)


@pytest.mark.parametrize(
    ("option", "said"), [("--fail", "no such model"), ("--die", "libmade_up"), ("--garbage", "link")]
)
def test_one_that_cannot_start_says_why_and_leaves_nothing(option, said):
    with pytest.raises(UserError, match=said):
        client.serve([*FAKE, option], LOAD, wanted(), lambda _: None)
    assert discovery.running() == [] and not list(paths.sockets().glob("*"))


def test_a_program_that_is_not_there_is_a_sentence():
    with pytest.raises(UserError, match="could not be started"):
        client.serve(["/no/such"], LOAD, None, lambda _: None)


def test_one_that_would_end_at_once_is_not_started():
    with pytest.raises(UserError, match="--keep 0"):
        command("serve", "--keep", "0")
    assert discovery.running() == []


def test_an_engine_is_chosen_by_how_its_id_begins_and_several_are_listed():
    with pytest.raises(UserError, match="no engine is running"):
        client.select_engine(None)
    first = serving()
    assert client.select_engine(None).id == first
    second = serving()
    with pytest.raises(UserError) as several:
        client.select_engine(None)
    assert first in str(several.value) and second in str(several.value)
    assert client.select_engine(second).id == second
    with pytest.raises(UserError, match="0 engines"):
        client.select_engine("zzzzz")


def test_one_that_does_not_answer_is_ended_all_the_same(monkeypatch):
    monkeypatch.setattr(client, "STOP_TIMEOUT_S", 0.3)
    busy = started("--load-seconds", "40")
    watcher = Watcher(busy.socket)
    watcher.send(LOAD)
    time.sleep(0.2)
    (engine,) = discovery.running()
    assert engine.standing is None and "busy" in client.table([engine])
    client.stop(engine)
    assert busy.process.wait(2) in (0, -9)
    assert discovery.running() == []


def test_what_comes_from_elsewhere_is_drawn_as_text():
    name = client.serve(FAKE, LOAD.__class__(ModelSpec("\x1b[31mred"), keep=60), None, lambda _: None)
    assert "\x1b" not in client.table([client.select_engine(name)])


def test_attaching_over_ssh_runs_it_there_in_a_terminal_with_the_colours_of_this_one(monkeypatch):
    ran = []
    monkeypatch.setattr("os.execvp", lambda program, arguments: ran.append(arguments) or sys.exit(0))
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    command("attach", "ab; rm", "--ssh", "-oProxyCommand=x", "--ascii", "--remote", "/opt/my env/tui-entropy")
    (arguments,) = ran
    assert arguments[:4] == ["ssh", "-t", "--", "-oProxyCommand=x"] and len(arguments) == 5
    assert shlex.split(arguments[4])[:3] == ["/opt/my env/tui-entropy", "attach", "ab; rm"]
    assert {"--ascii", "truecolor"} <= set(shlex.split(arguments[4]))


def test_a_socket_of_another_folder_may_lead_elsewhere(tmp_path):
    assert client.is_forwarded(tmp_path / "x.sock")
    name = serving()
    assert not client.is_forwarded(client.select_engine(name).socket)


def test_the_process_behind_a_socket_is_known():
    name = client.serve(FAKE, LOAD, None, lambda _: None)
    engine = client.select_engine(name)
    with closing(connection.connect(engine.socket)) as end:
        assert connection.peer(end.socket)[0] == engine.standing.pid


def test_what_waits_for_a_model_is_told_how_far_it_is():
    heard = []
    client.serve(FAKE, LOAD, None, heard.append)
    assert [progress.done for progress in heard] == [0, 90, 180, 270]
    assert Ready not in map(type, heard)
