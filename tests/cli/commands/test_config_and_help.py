"""The settings, and what the program tells of itself."""

from __future__ import annotations

import shlex

import pytest
from tried_commands import runs

from tui_entropy.records.knobs import KNOBS
from tui_entropy.records.knobs import shown as shown_knob
from tui_entropy.records.sampling import Knobs

pytestmark = [pytest.mark.real, pytest.mark.pty]


CONFIG = " ".join([
    "tui-entropy config --model x --revision y --device cpu --dtype float32 --products rows --chat-template z",
    "--trust-remote-code --graph --color mono --ascii --mouse --diff --demo",
    *(f"{knob.option} {shlex.quote(shown_knob(Knobs(), knob.name))}" for knob in KNOBS),
])  # fmt: skip


@runs(
    "tui-entropy config",
    "tui-entropy config --theme light --top-p 0.8",
    CONFIG,
    "tui-entropy config --no-trust-remote-code --no-graph --no-mouse --no-diff",
)
def test_settings(shell, line):
    done = shell.run(line)
    assert done.code == 0 and ("option --theme" in done.out) == ("light" in line), done.err
    assert done.out.count("option --") == {CONFIG: 1 + len(KNOBS)}.get(line, 2 * ("light" in line))


@runs("tui-entropy themes", "tui-entropy --version", "tui-entropy --help", "tui-entropy -h")
def test_what_the_program_tells_of_itself(shell, line):
    done = shell.run(line)
    assert done.code == 0 and done.out.strip() and not done.err
