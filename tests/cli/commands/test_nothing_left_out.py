"""Every command of the documents and every option of `--help` is run by a test of this folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import promises
import pytest
import typer
from promises import ROOT
from tried_commands import LINES

from tui_entropy.cli import app

pytestmark = [pytest.mark.real, pytest.mark.pty]


ELSEWHERE = {
    "ssh -L /tmp/e.sock:REMOTE_SOCKET gpu-03": "ssh's own; what it makes is attached to above",
    "./scripts/test": "it runs these tests",
}
"""Commands of the documents that no test runs, and why."""


@pytest.fixture(scope="module", autouse=True)
def tried() -> None:
    """Every file of this folder has said what it runs, also where this one is run alone."""
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(path.stem)


def test_every_command_of_the_documents_is_run():
    unknown = set(promises.commands()) - set(LINES) - ELSEWHERE.keys()
    assert not unknown, f"commands that no test runs: {sorted(unknown)}"
    assert ELSEWHERE.keys() <= set(promises.commands())
    assert "./scripts/test" in (ROOT / ".ci/run").read_text()


def test_every_command_and_option_is_run():
    """Each name of each option, the negative of a switch too."""
    tried: set[tuple[str, str]] = set()
    for line in LINES:
        for name, words in promises.invocations(line):
            tried |= {(name, word.partition("=")[0]) for word in words if word.startswith("-")}
            tried.add((name, ""))
    commands: Any = typer.main.get_command(app)
    wanted = {
        (name, option)
        for name, command in commands.commands.items()
        for option in ["", *(o for p in command.params if p.param_type_name == "option" for o in _names(p))]
    }
    left = {" ".join(one).strip() for one in wanted - tried}
    assert not left, f"no test runs these: {sorted(left)}"


def _names(option: Any) -> list[str]:
    """The long names of an option; a short one is the same by another name, and is tried where it stands alone."""
    return [name for name in (*option.opts, *option.secondary_opts) if name.startswith("--")]
