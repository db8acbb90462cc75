"""Recordings: listed, shown, asked with other programs, replayed, gone on with, removed."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from typing import Any

import numpy as np
import promises
import pytest
from inspector_screen import shown, written
from promises import ROOT, assert_right, recorded
from transformers import AutoTokenizer
from tried_commands import MODEL, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


def test_what_is_recorded_is_right(story):
    session = recorded(story.folder / "story.tui")
    assert len(session.tokens) > 200
    assert_right(session, MODEL)


@runs("tui-entropy traces")
def test_traces(story, line):
    done = story.run(line)
    assert done.code == 0 and "story" in done.out


@runs("tui-entropy show story", "tui-entropy show run.tui --run 1")
def test_showing(story, line):
    done = story.run(line)
    assert done.code == 0 and "SmolLM2" in done.out and "lighthouse" in done.out


@runs("tui-entropy merge story", "tui-entropy merge run.tui --run 1")
def test_merging(story, line):
    done = story.run(line)
    with closing(sqlite3.connect(story.folder / "run.tui")) as db:
        (text,) = db.execute("select group_concat(text, '') from (select text from steps order by step)").fetchone()
    assert done.code == 0 and text.strip()[:200] in done.out


@runs('sqlite3 run.tui "select text, entropy_nats from tokens order by entropy_nats desc limit 10"')
def test_a_recording_is_asked_with_sqlite(story, line):
    if shutil.which("sqlite3") is None:
        pytest.skip("sqlite3 is not here")
    done = story.run(line)
    highest = np.sort(recorded(story.folder / "run.tui").numbers[:, 0])[::-1][:10]
    assert done.code == 0
    assert [float(row.rpartition("|")[2]) for row in done.out.splitlines() if "|" in row] == pytest.approx(highest)


def test_a_recording_is_asked_with_pandas_and_duckdb(story, monkeypatch):
    """The lines of Python in the README, as they stand there."""
    pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    text = (ROOT / "README.md").read_text()
    start = text.index("    import sqlite3, pandas as pd, duckdb")
    source = [line.strip() for line in text[start : text.index("\n\n", start)].splitlines()]
    monkeypatch.chdir(story.folder)
    names: dict[str, Any] = {}
    exec("\n".join(source[:-1]), names)
    rows = eval(source[-1].partition("    #")[0], names).fetchall()
    wanted = np.sort(recorded(story.folder / "run.tui").numbers[:, 2])[::-1][:10]
    found = {row[0]: row[1] for row in rows}
    assert len(rows) == 10 and found
    ranks = names["tokens"].sort_values("surprisal_nats", ascending=False)["rank"].tolist()[:10]
    assert [row[1] for row in rows] == ranks and len(wanted) == 10


@pytest.mark.parametrize("language", ["sql", "python"])
def test_the_questions_to_a_recording_have_answers(story, monkeypatch, language):
    """The fenced blocks of docs/trace.md, as they stand there."""
    monkeypatch.chdir(story.folder)
    names: dict[str, Any] = {}
    found = promises.blocks("docs/trace.md", language)
    assert found
    for block in found:
        if language == "sql":
            with closing(sqlite3.connect("run.tui")) as db:
                assert db.execute(block).fetchall(), block
        elif "duckdb" not in block:  # whose extension is downloaded
            pytest.importorskip("pandas")
            pytest.importorskip("matplotlib").use("Agg")
            exec(block, names)
    if language == "python":
        assert names["head_entropy"].shape == (30, 9)


@runs(
    "tui-entropy replay story",
    "tui-entropy replay last",
    "tui-entropy replay story.tui --all",
    "tui-entropy replay story.tui --from 200 --speed 4",
    "tui-entropy replay story.tui --run 1 --theme light --color mono --ascii --no-mouse --no-diff",
    "tui-entropy replay story.tui --mouse --diff",
)
def test_replaying(story, line):
    with story.screen(line) as terminal:
        n = 220 if "--all" in line else 200 if "--from" in line else 3
        terminal.wait_for(lambda text: len(re.findall(r"step \d+", text)) and shown(text) >= n, 60)
        terminal.press("q")
        assert terminal.wait(60) == 0
        assert terminal.left_changed() == set()


@runs(
    "tui-entropy open story.tui --headless --max-tokens 8",
    "tui-entropy open story --headless --max-tokens 8 --jsonl --run 1 --trace went-on.tui --model smollm2 "
    "--device cpu --dtype float32 --products rows --no-trust-remote-code --no-graph --record-attention off",
)
def test_a_recording_is_gone_on_with(story, line):
    before = (story.folder / "story.tui").read_bytes()
    done = story.run(line)
    assert done.code == 0, done.err
    assert "tokens read again: as recorded" in done.err
    path = story.folder / "went-on.tui" if "went-on" in line else story.newest
    was, session = recorded(story.folder / "story.tui"), recorded(path)
    assert_right(session, MODEL)
    assert session.tokens[:-8] == was.tokens and len(session.tokens) == len(was.tokens) + 8
    if "--jsonl" in line:
        lines = [json.loads(text) for text in done.out.splitlines()]
        assert [one["token_id"] for one in lines if "index" in one] == session.tokens[-8:]
        assert "header" in lines[0]
    else:
        assert AutoTokenizer.from_pretrained(MODEL).decode(session.tokens[-8:]) == done.out.removesuffix("\n")
    assert (story.folder / "story.tui").read_bytes() == before


@runs(
    "tui-entropy open last",
    "tui-entropy open story.tui --no-headless --theme light --color 256 --ascii --no-mouse --no-diff --keep 0 "
    "--on-leave stop --kept-cache 0 --trace opened.tui --demo --revision main --chat-template x --despite",
    "tui-entropy open story.tui --no-trace --mouse --diff --trust-remote-code --graph",
)
def test_a_recording_is_opened_on_the_screen_and_written_on(story, line):
    with story.screen(line) as terminal:
        if "--revision" in line:
            terminal.wait_for("leave out --revision", promises.SECONDS)
        else:
            terminal.wait_for("as recorded", promises.SECONDS)
            goal = written(terminal.text) + 3
            terminal.press("space")
            terminal.wait_for(lambda text: written(text) >= goal or "ended" in text, 120)
        terminal.press("q")
        assert terminal.wait(60) == 0


@runs("tui-entropy replay")
def test_one_is_chosen_from_a_list(story, line):
    with story.screen(line) as terminal:
        terminal.wait_for("Which one?", 60)
        terminal.press("story\r")
        terminal.wait_for(lambda text: shown(text) >= 3, 60)
        terminal.press("q")
        assert terminal.wait(60) == 0


@runs(
    "tui-entropy tour",
    "tui-entropy tour --theme light --color 256 --ascii --no-mouse --no-diff",
    "tui-entropy tour --mouse --diff --demo",
)
def test_the_tour(shell, line):
    with shell.screen(line) as terminal:
        terminal.wait_for("A model writes.", 60)
        terminal.press("q")
        assert terminal.wait(60) == 0
        assert terminal.left_changed() == set()


@runs("tui-entropy rm doomed.tui --yes", "tui-entropy rm doomed.tui -y")
def test_removing(story, line):
    shutil.copy(story.folder / "run.tui", story.folder / "doomed.tui")
    assert story.run(line).code == 0
    assert not (story.folder / "doomed.tui").exists() and (story.folder / "run.tui").exists()
