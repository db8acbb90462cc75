"""Recording: what is taken is in the file, whatever becomes of the process or the disk."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from places import SUPPORT
from recorded import on_device, recorded, session

from tui_entropy.core.errors import UserError
from tui_entropy.records.events import Ended, Memory, Progress
from tui_entropy.records.probes.ask import ProbeAnswer, ProbeProgress
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder

WRITERS = """
import json, os, random, signal, sys, time
sys.path[:0] = sys.argv[1].split(os.pathsep)
from pathlib import Path
from recorded import on_device, session
from tui_entropy.trace.writer import Recorder

chance = random.Random(0)
folder = Path(sys.argv[2])
for nth in range(int(sys.argv[3])):
    log_path = folder / f"{nth}.txt"
    if (pid := os.fork()) == 0:
        recorder = Recorder(folder / f"{nth}.tui")
        screen = open(log_path, "w", buffering=1)
        for event in session(0):
            recorder.take(event)
        for index in range(10**6):
            recorder.take(on_device(index))
            screen.write(f"{time.time()}\\n")
            time.sleep(chance.uniform(0, 0.01))
    while nth % 4 and not (log_path.exists() and log_path.stat().st_size):  # every fourth may die before it wrote
        time.sleep(0.005)
    time.sleep(chance.uniform(0.05, 0.6))
    os.kill(pid, signal.SIGKILL)
    print(time.time())
    os.waitpid(pid, 0)
"""
"""Processes that write, one after the other, each killed at a moment of its own."""


def test_a_step_is_in_the_file_soon_and_anything_else_at_once(tmp_path):
    with closing(Recorder(tmp_path / "a.tui", max_wait=0.05)) as recorder:
        for event in session(3):
            recorder.take(event)
        time.sleep(0.5)
        trace = Trace.open(tmp_path / "a.tui")
        assert trace.n_steps(1) == 3
        recorder.take(on_device(3))
        recorder.take(Ended(1, "stopped"))
        recorder.flush()
        assert trace.n_steps(1) == 4 and trace.log().state == "ended"


def test_what_is_only_of_the_moment_is_not_kept(tmp_path):
    moments = [
        Progress("importing"),
        Memory(1, None, 1),
        ProbeProgress("lens", 1, 1, 1.0, 2.0),
        ProbeAnswer("lens", 1, 1, record=False),
    ]
    trace = Trace.open(recorded(tmp_path / "a.tui", [*session(1), *moments]))
    assert not {type(event) for _, _, event in trace.events()} & {Progress, Memory, ProbeProgress, ProbeAnswer}


def test_a_closed_trace_is_one_file_that_only_its_owner_can_open(tmp_path):
    path = recorded(tmp_path / "new" / "a.tui", session(2))
    assert [file.name for file in path.parent.iterdir()] == ["a.tui"]
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700


def test_nothing_is_ever_overwritten(tmp_path):
    first = recorded(tmp_path / "a.tui", session(2)).read_bytes()
    others = [Recorder(tmp_path / "a.tui") for _ in range(2)]
    assert [other.path.name for other in others] == ["a-2.tui", "a-3.tui"]
    assert (tmp_path / "a.tui").read_bytes() == first
    for other in others:
        other.close()


def test_a_session_in_which_nothing_was_written_leaves_no_file(tmp_path):
    recorded(tmp_path / "a.tui", session())
    assert list(tmp_path.iterdir()) == []


def test_without_a_path_nothing_happens():
    recorder = Recorder(None)
    recorder.take(on_device(0))
    recorder.flush()
    recorder.close()
    assert recorder.name is None


def test_a_place_that_cannot_be_written_is_told_once_and_does_not_stop_anything(tmp_path):
    (tmp_path / "file").write_text("")
    complaints: list[str] = []
    recorder = Recorder(tmp_path / "file" / "a.tui", complaints.append)
    for event in session(2):
        recorder.take(event)
    recorder.close()
    assert len(complaints) == 1 and "cannot be written" in complaints[0] and recorder.name is None
    with pytest.raises(UserError, match="cannot be written"):
        Recorder(tmp_path / "file" / "a.tui")


def test_a_disk_that_fills_up_is_told_once_and_what_was_recorded_stays(tmp_path):
    complaints: list[str] = []
    before = set(threading.enumerate())
    recorder = Recorder(tmp_path / "a.tui", complaints.append)
    for event in session(5):
        recorder.take(event)
    recorder.flush()
    recorder._db.execute("PRAGMA max_page_count=1")  # as small as it is now: SQLite then says that the disk is full
    for index in range(5, 200):
        recorder.take(on_device(index))
        time.sleep(0.001)
    recorder.close()
    assert len(complaints) == 1 and "full" in complaints[0]
    assert 5 <= Trace.open(tmp_path / "a.tui").n_steps(1) < 200
    assert not set(threading.enumerate()) - before


def test_another_reader_does_not_keep_the_engine_from_ending(tmp_path):
    recorder = Recorder(tmp_path / "a.tui")
    for event in session(5):
        recorder.take(event)
    recorder.flush()
    trace = Trace.open(tmp_path / "a.tui")
    trace.seqs(1)
    began = time.monotonic()
    recorder.close()
    assert time.monotonic() - began < 2 and trace.n_steps(1) == 5


def test_of_a_process_killed_at_any_moment_nothing_older_than_200_ms_is_missing(tmp_path):
    kills = int(os.environ.get("KILLS", "20"))
    command = [sys.executable, "-c", WRITERS, os.pathsep.join(map(str, SUPPORT)), str(tmp_path), str(kills)]
    deaths = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    in_all = 0
    for nth, died in enumerate(map(float, deaths)):
        shown = sum(float(when) < died - 0.2 for when in (tmp_path / f"{nth}.txt").read_text().split())
        in_all += shown
        trace = Trace.open(tmp_path / f"{nth}.tui")
        n = trace.n_steps(1) if trace.runs else 0
        assert n >= shown and not trace.damage
        assert list(trace.steps(1)) == [on_device(index) for index in range(n)]
        trace.close()
        with closing(sqlite3.connect(tmp_path / f"{nth}.tui")) as plain:
            assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert in_all > kills  # or nothing would be tested


@pytest.mark.parametrize("gone", [Path.unlink, lambda path: path.rename(path.with_name("other.tui"))])
def test_a_trace_that_is_removed_while_it_is_written_is_told_of_once(tmp_path, gone):
    complaints = []
    recorder = Recorder(tmp_path / "one.tui", complaints.append)
    events = session(6)
    for event in events[:3]:
        recorder.take(event)
    recorder.flush()
    assert not complaints
    gone(tmp_path / "one.tui")
    for event in events[3:]:
        recorder.take(event)
        recorder.flush()
    recorder.close()
    assert len(complaints) == 1 and "one.tui was removed while it was written" in complaints[0]
    assert recorder.name is None
