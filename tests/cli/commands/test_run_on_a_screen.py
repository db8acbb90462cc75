"""The inspector as it is opened from a shell: it writes, stops at breakpoints, and wears every look."""

from __future__ import annotations

import re

import gguf_files
import numpy as np
import promises
import pytest
import tiny
from inspector_screen import quit_after
from promises import ROOT, Shell, assert_right, recorded
from tried_commands import MODEL, runs

from tui_entropy.cli.options import SAMPLE_PROMPT

pytestmark = [pytest.mark.real, pytest.mark.pty]


@runs("./scripts/run", 'tui-entropy --prompt "Why is the sky blue?" --temperature 1.0')
def test_the_inspector_opens_and_writes(shell, line):
    shell = shell.cold if line == "./scripts/run" else shell
    with shell.screen(line, cwd=ROOT) as terminal:
        terminal.wait_for("SmolLM2-135M-Instruct", promises.SECONDS)
        quit_after(terminal, 4)
    session = recorded(shell.newest)
    assert_right(session, MODEL)
    (started,) = [event for kind, event in session.events if kind == "started"]
    wanted = "Why is the sky blue?" if "blue" in line else SAMPLE_PROMPT
    assert started["prompt"] == wanted and started["knobs"]["temperature"] == (1.0 if "blue" in line else 0.7)


@runs('tui-entropy --model ./weights.gguf --raw --prompt "Once upon a time"')
def test_a_gguf_file(shell, line):
    gguf_files.write(shell.folder / "weights.gguf", tiny.FAMILIES["llama"]())
    converted = {"XDG_CACHE_HOME": str(shell.folder / "cache")}
    with Shell(shell.folder, {**shell.env, **converted}).screen(line) as terminal:
        quit_after(terminal, 2)
    (folder,) = (shell.folder / "cache" / "tui-entropy" / "models").glob("weights-*")
    assert_right(recorded(shell.newest), folder)


@runs(
    """tui-entropy --break 'entropy > 4 bits' --break 'token == " Paris"' --watch " Yes" --watch " No\"""",
    """tui-entropy --break 'entropy > 4 bits and step > 10' --break 'token ~ "^ (Paris|Rome)"'""",
)
def test_it_stops_before_the_token_of_a_breakpoint(shell, line):
    with shell.screen(line) as terminal:
        terminal.wait_for(re.compile(r"paused.*entropy > 4 bits", re.DOTALL), promises.SECONDS)
        terminal.press("q")
        assert terminal.wait(60) == 0
    session = recorded(shell.newest)
    entropies = session.numbers[:, 0] / np.log(2)
    assert all(entropies[10 if "step > 10" in line else 0 :] <= 4)
    if len(session.tokens):
        assert_right(session, MODEL)


LOOKS = (
    "tui-entropy run --theme light --color 256 --ascii --no-mouse --no-diff --keep 0 --on-leave stop "
    "--kept-cache 64MiB --record-attention off",
    "tui-entropy run --no-headless --theme high-contrast --mouse --diff --trust-remote-code --graph",
)


@runs(*LOOKS)
def test_the_looks_of_the_inspector(shell, line):
    with shell.screen(line, size=(100, 30)) as terminal:
        quit_after(terminal, 2)
        if "--ascii" in line:
            assert terminal.text.isascii()
            assert b"\x1b[?1000h" not in b"".join(chunk.data for chunk in terminal.chunks)
    assert_right(recorded(shell.newest), MODEL)
