"""The command `export`: where files go, and a sentence for whatever stands in the way."""

import gzip
import sqlite3
import subprocess
import sys

import exports
import pytest
from recorded import recorded, session
from scripted import started, step

from tui_entropy.core.errors import UserError
from tui_entropy.export.registry import FORMATS, export
from tui_entropy.records.events import Switched
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace

ALL = """
import sys
from pathlib import Path
from tui_entropy.export.registry import FORMATS, export
for to in FORMATS:
    export(Path("run.tui"), to)
print(*{"torch", "transformers"} & set(sys.modules))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return exports.trace(tmp_path / "run.tui")


def test_every_format_is_written_beside_where_one_stands_and_none_needs_the_engine(run):
    done = subprocess.run([sys.executable, "-c", ALL], capture_output=True, text=True)
    assert done.stdout == "\n", done.stderr
    files = {path.name for path in run.parent.iterdir()}
    assert {f"run{form.ending}" for form in FORMATS.values()} <= files


def test_it_says_what_went_where(run):
    assert export(run, "csv", run.parent / "table.csv").endswith(f"6 tokens, written to {run.parent / 'table.csv'}")


def test_the_newest_run_or_the_one_that_is_asked_for(tmp_path):
    path = exports.trace(tmp_path / "two.tui", exports.events(), [started(2), step(0, " second", 2)])
    for asked, word in ((None, " second"), (2, " second"), (1, " Paris")):
        export(path, "csv", tmp_path / "out.csv", asked)
        assert f",{word}," in (tmp_path / "out.csv").read_text("utf-8")


@pytest.mark.parametrize(("to", "name"), [("inif", "run.inif"), ("csv", "run.csv.gz")])
def test_an_ending_asks_for_gzip(run, to, name):
    export(run, to, run.parent / name)
    export(run, to, run.parent / "plain")
    assert gzip.decompress((run.parent / name).read_bytes()) == (run.parent / "plain").read_bytes()


def test_a_minus_is_stdout_and_narration_keeps_off_it(run):
    command = [sys.executable, "-m", "tui_entropy", "export", str(run), "--to", "jsonl", "-o", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith('{"header"') and done.stdout.endswith("}\n") and "stdout" in done.stderr


@pytest.mark.parametrize(
    ("to", "out", "number", "said"),
    [
        ("docx", None, None, "--to docx is no format: it can be one of csv, jsonl, parquet"),
        ("csv", "nowhere/run.csv", None, "cannot be written: No such file"),
        ("csv", "run.tui", None, "is the recording itself"),
        ("csv", None, 7, "has no run 7: it has 1"),
    ],
)
def test_a_mistake_is_one_sentence(run, to, out, number, said):
    with pytest.raises(UserError, match=said):
        export(run, to, out and run.parent / out, number)
    assert run.read_bytes().startswith(b"SQLite")


@pytest.mark.parametrize(("to", "module"), [("parquet", "pyarrow"), ("svg", "matplotlib"), ("png", "matplotlib")])
def test_a_missing_extra_is_named_and_what_was_there_stays(run, to, module, monkeypatch):
    old = run.parent / "old"
    old.write_bytes(b"kept")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"needs {module}, which is not installed: pip install 'tui-entropy\["):
        export(run, to, old)
    assert old.read_bytes() == b"kept"


@pytest.mark.parametrize(("lost", "said"), [("started", "holds no run"), ("ready", "which model wrote it")])
def test_a_trace_that_lost_what_an_export_needs_says_so(run, lost, said):
    with sqlite3.connect(run) as db:
        db.execute("DELETE FROM events WHERE kind = ?", (lost,))
    with pytest.raises(UserError, match=said):
        export(run, "csv")


@pytest.mark.parametrize("to", FORMATS)
def test_nonsense_in_a_trace_becomes_unknown_in_every_format(run, to):
    with sqlite3.connect(run) as db:
        db.execute("UPDATE steps SET entropy_nats = 'x', rank = 9e999, position = 'y', strays = 1e300")
        db.execute("UPDATE steps SET text = x'ff', bytes = 7, state = 'z', stages = 'a,b' WHERE step > 2")
        db.execute("UPDATE arrays SET head_entropy_nats = x'00', candidate_ids = x'01', blocks = NULL WHERE seq > 6")
        db.execute("UPDATE arrays SET head_varentropy_nats2 = zeroblob(24), attention = NULL")
    export(run, to, run.parent / "out")
    assert (run.parent / "out").stat().st_size > 1000


def test_the_command_answers_with_the_sentence_alone(tmp_path):
    command = [sys.executable, "-m", "tui_entropy", "export", str(tmp_path / "none.tui"), "--to", "csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3 and "none.tui" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("last", [1, 2])
def test_what_is_exported_is_what_a_replay_shows(tmp_path, last):
    """The run that was looked at last, unless another one is named."""
    file = recorded(tmp_path / "a.tui", [*session(3, 2), Switched(last)])
    export(file, "csv", tmp_path / "a.csv")
    export(file, "csv", tmp_path / "named.csv", run=last)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "named.csv").read_bytes()
    assert Playback(Trace.open(file)).run == last
