"""A model of a hub, and a revision of it, with every command that takes one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import hub_server
import promises
import pytest
from inspector_screen import quit_after
from tried_commands import FRUIT, WORDS, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


@runs("tui-entropy --model Qwen/Qwen3-0.6B --device cuda --dtype bfloat16")
def test_a_model_of_the_hub(hub_shell, line):
    """On the CPU where there is no GPU."""
    import torch

    line = line if torch.cuda.is_available() else line.replace("cuda", "cpu")
    with hub_shell.screen(line) as terminal:
        terminal.wait_for("Qwen/Qwen3-0.6B", promises.SECONDS)
        quit_after(terminal, 2)
    with closing(sqlite3.connect(hub_shell.newest)) as db:
        (card,) = db.execute("select value from header where key = 'model'").fetchone()
    assert (json.loads(card)["dtype"], json.loads(card)["revision"]) == ("bfloat16", hub_server.COMMIT)


@runs(
    "tui-entropy run --headless --raw --max-tokens 2 --no-trace --model Qwen/Qwen3-0.6B --revision main -p a",
    "tui-entropy serve --no-trace --model Qwen/Qwen3-0.6B --revision main",
    "tui-entropy doctor --json --model Qwen/Qwen3-0.6B --revision main",
    "echo ab | tui-entropy read - --headless --no-trace --model Qwen/Qwen3-0.6B --revision main",
    "tui-entropy probe lens --raw --model Qwen/Qwen3-0.6B --revision main -p a",
)
def test_a_revision_of_a_model_of_the_hub(hub_shell, line):
    done = hub_shell.run(line)
    assert done.code == 0, done.err
    wrong = hub_shell.run(line.replace("main", "none"))
    assert wrong.code == 3 and "none" in wrong.err
    if " serve " in line:
        assert hub_shell.run(f"tui-entropy stop {done.out.strip()}").code == 0


@runs("tui-entropy calibrate words.txt --model Qwen/Qwen3-0.6B --revision main --no-headless")
def test_calibration_of_a_revision(hub_shell, line):
    (hub_shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    assert hub_shell.run(line.replace("--no-headless", "--headless")).code == 0
    without = hub_shell.run(line)
    assert without.code == 3 and "--headless" in without.err  # there is no terminal


@runs("tui-entropy grade questions.jsonl --model Qwen/Qwen3-0.6B --revision main --no-headless")
def test_grading_by_a_revision(hub_shell, line):
    (hub_shell.folder / "questions.jsonl").write_text(f"{json.dumps(FRUIT)}\n")
    assert hub_shell.run(line.replace("--no-headless", "--headless")).code == 0
    without = hub_shell.run(line)
    assert without.code == 3 and "--headless" in without.err  # there is no terminal


@runs(
    "tui-entropy compare Qwen/Qwen3-0.6B words.txt --model Qwen/Qwen3-0.6B --revision main --revision-b main "
    "--no-headless"
)
def test_comparison_of_revisions(hub_shell, line):
    (hub_shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    assert hub_shell.run(line.replace("--no-headless", "--headless")).code == 0
    wrong = hub_shell.run(
        line.replace("--revision-b main", "--revision-b none").replace("--no-headless", "--headless")
    )
    assert wrong.code == 3 and "none" in wrong.err


@runs("tui-entropy lens fit words.txt --output lens-c --model Qwen/Qwen3-0.6B --revision main")
def test_a_lens_of_a_revision(hub_shell, line):
    (hub_shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    assert hub_shell.run(line).code == 0
    wrong = hub_shell.run(line.replace("main", "none").replace("lens-c", "lens-d"))
    assert wrong.code == 3 and "none" in wrong.err


@runs(
    "tui-entropy embeddings markov words.txt --model Qwen/Qwen3-0.6B --revision main",
    "tui-entropy perplexity words.txt --model Qwen/Qwen3-0.6B --revision main",
    "tui-entropy analyze words.txt --model Qwen/Qwen3-0.6B --revision main",
)
def test_numbers_of_a_revision(hub_shell, line):
    (hub_shell.folder / "words.txt").write_text(WORDS.lower()[:200])
    if "embeddings" in line:
        (hub_shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    assert hub_shell.run(line).code == 0
    wrong = hub_shell.run(line.replace("main", "none"))
    assert wrong.code == 3 and "none" in wrong.err
