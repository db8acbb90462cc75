"""The command `export`: where files go, and a sentence for whatever stands in the way."""

import gzip
import subprocess
import sys

import pytest
import recorded
from scripted import started, step

from tui_entropy.errors import UserError
from tui_entropy.export.formats import FORMATS, export

ALL = """
import sys
from pathlib import Path
from tui_entropy.export.formats import FORMATS, export
for to in FORMATS:
    export(Path("run.tui"), to)
print(*{"torch", "transformers", "textual"} & set(sys.modules))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return recorded.trace(tmp_path / "run.tui")


def test_every_format_is_written_beside_where_one_stands_and_none_needs_the_engine(run):
    done = subprocess.run([sys.executable, "-c", ALL], capture_output=True, text=True)
    assert done.stdout == "\n", done.stderr
    files = {path.name for path in run.parent.iterdir()}
    assert {f"run{form.ending}" for form in FORMATS.values()} <= files


def test_it_says_what_went_where(run):
    assert export(run, "csv", run.parent / "table.csv").endswith(f"6 tokens, written to {run.parent / 'table.csv'}")


def test_the_newest_run_or_the_one_that_is_asked_for(tmp_path):
    path = recorded.trace(tmp_path / "two.tui", recorded.events(), [started(2), step(0, " second", 2)])
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
        ("docx", None, None, "--to docx is no format; it can be one of csv, jsonl, parquet"),
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


def test_a_trace_without_a_run_has_nothing_to_give(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        export(recorded.trace(tmp_path / "empty.tui", []), "csv", tmp_path / "out")


def test_the_command_answers_with_the_sentence_alone(tmp_path):
    command = [sys.executable, "-m", "tui_entropy", "export", str(tmp_path / "none.tui"), "--to", "csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3 and "none.tui" in done.stderr and done.stderr.count("\n") == 1
