"""What is copied after `y` and a letter, and that the command makes the same run."""

import os
import shlex
import subprocess
import sys

import made
import pytest
import small
from inspectors import screen_text, settled, up, writing
from made_frames import frame_of
from msgspec.structs import replace
from typer.testing import CliRunner

from tui_entropy.cli import app
from tui_entropy.records.commands import Write
from tui_entropy.records.events import KnobsChanged
from tui_entropy.records.knobs import read
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import scaled_part
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.dialogs import clipboard
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.views.frame import Frame


@pytest.mark.parametrize(
    ("letter", "holds"),
    [("t", "city of Paris"), ("r", "entropy"), ("c", "model probability"), ("m", "tui-entropy run")],
)
@pytest.mark.parametrize("page", ["", "N", "B"])
async def test_y_and_a_letter_copy_on_every_page(letter, holds, page):
    app, copied = up(), []
    app.copy_to_clipboard = copied.append
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await pilot.press(*page, "y")
        await settled(app, pilot)
        assert "t the text" in screen_text(app)
        await pilot.press(letter)
        await settled(app, pilot)
        assert len(copied) == 1 and holds in copied[0] and not app.questions.asking
        assert "sent to the clipboard" in app.frame.notice and not app.sent


async def test_another_letter_copies_nothing_and_escape_closes():
    app, copied = up(), []
    app.copy_to_clipboard = copied.append
    async with app.run_test(size=(80, 24)) as pilot:
        await writing(app, pilot)
        await pilot.press("y", "x", "enter", "escape")
        assert not copied and not app.questions.asking


def test_a_table_has_as_many_fields_in_every_line_whatever_a_token_holds():
    log = made.log(3, texts=[" a\tb\n", "\\", "\r"])
    for cursor in range(3):
        frame = frame_of(log, cursor=cursor)
        for table in (clipboard.row(frame), clipboard.candidates(frame)):
            assert len({line.count("\t") for line in table.split("\n")[:-1]}) == 1
    names, values = (line.split("\t") for line in clipboard.row(frame_of(log, cursor=0)).splitlines())
    assert dict(zip(names, values, strict=True))["token"] == " a\\tb\\n"


ODD = {
    "temperature": "0.123456789", "top_k": "7", "top_p": "0.9", "banned": "3,5", "seed": "12345678901",
    "adaptive": "S1",
    "order": "temperature,min_p", "dry_breakers": "x,\\n", "clarifier": " ...", "repetition_penalty": "1.3",
}  # fmt: skip


def test_the_command_line_reads_every_knob_as_it_was(monkeypatch):
    knobs = Knobs()
    for name, value in ODD.items():
        knobs = read(knobs, name, value)
    frame = frame_of(made.log(2, knobs=knobs, prompt="-x 'quoted'\n$HOME", system="--be brief"))
    words = shlex.split(clipboard.command(frame, "tiny"))
    got = []
    monkeypatch.setattr("tui_entropy.analysis.run.write_out", lambda spec, write, *_, **__: got.append((spec, write)))
    CliRunner().invoke(app, [*words[1:], "--headless", "--no-trace"], standalone_mode=False, catch_exceptions=False)
    ((spec, write),) = got
    assert write == Write("-x 'quoted'\n$HOME", "--be brief", True, 400, knobs, write.score_prompt)
    assert spec == ModelSpec("tiny", device="cpu", dtype="float32")


def test_the_command_line_has_the_parts_that_are_scaled(monkeypatch):
    vectors = (scaled_part("12.3"), scaled_part("2.feed-forward=0.5"), replace(scaled_part("1.1"), on=False))
    frame = frame_of(made.log(2, vectors=vectors))
    words = shlex.split(clipboard.command(frame, "tiny"))
    got = []
    monkeypatch.setattr("tui_entropy.analysis.run.write_out", lambda spec, write, **more: got.append(more["vectors"]))
    CliRunner().invoke(app, [*words[1:], "--headless", "--no-trace"], standalone_mode=False, catch_exceptions=False)
    assert got == [vectors[:2]] and not any("built-in" in one for one in clipboard.left_out(frame))


def test_what_a_command_leaves_out_is_said():
    log = made.log(12, marks=False)
    assert clipboard.left_out(frame_of(log)) == []
    log.append(KnobsChanged(1, 12, Knobs(temperature=1.2)))
    assert "changed on the way" in clipboard.left_out(frame_of(log))[0]
    log.append(made.started(run=2, parent=1, shared=6))
    assert "run 1" in clipboard.left_out(frame_of(log))[0]


def test_the_command_makes_the_same_run(tmp_path):
    small.saved(tmp_path / "tiny")

    def run(*words):
        done = subprocess.run([sys.executable, "-m", "tui_entropy", *words], capture_output=True, timeout=110)
        assert done.returncode == 0, done.stderr.decode()

    options = ["--temperature", "1.3", "--top-k", "0", "--seed", "11", "--min-p", "0.01", "--max-tokens", "12"]
    first, again = tmp_path / "first.tui", tmp_path / "again.tui"
    run(
        "run",
        "--headless",
        "--model",
        os.path.relpath(tmp_path / "tiny"),
        "--raw",
        "-p",
        "ABC it's",
        *options,
        "--trace",
        str(first),
    )
    log = Trace.open(first).log()
    assert log.card.requested == str(tmp_path / "tiny")
    words = shlex.split(clipboard.command(Frame(log, Paint(), cursor=0)))
    assert words[3] == str(tmp_path / "tiny")
    run(*words[1:], "--headless", "--trace", str(again))
    repeated = Trace.open(again).log()
    assert list(repeated.steps.ids) == list(log.steps.ids) and len(log.steps) > 3
    assert isinstance(log, SessionView) and repeated.run.started.knobs == log.run.started.knobs
