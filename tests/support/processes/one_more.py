"""Programs in a process that has one metric, one stage or one probe more than the program as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from places import ROOT

COMMANDS = """
import json, os, sys
from tui_entropy.__main__ import main
codes = []
for words in json.loads(sys.argv[1]):
    *words, out = words
    sys.argv = ["tui-entropy", *words]
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
    try:
        main()
        codes.append(0)
    except SystemExit as end:
        codes.append(end.code)
    sys.stdout.flush()
with open("codes", "w") as file:
    json.dump(codes, file)
"""


TABLES = f"""
import sys
from importlib.machinery import SourceFileLoader
import types
readme = types.ModuleType("readme"); readme.__file__ = {str(ROOT / "scripts" / "readme")!r}
SourceFileLoader("readme", readme.__file__).exec_module(readme)
print(*(getattr(readme, name)() for name in sys.argv[1:]), sep="\\n")
"""
"""Says the tables of the documents that it is given the names of."""


def program(folder: Path, added: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has imported what is added, as a file of its own, before anything else."""
    (folder / "one_more_file.py").write_text(added)
    first = f"import sys; sys.path[:0] = {[str(folder), *support()]!r}; import one_more_file\n"
    command = [sys.executable, "-c", first + textwrap.dedent(code), *arguments]
    own = os.environ | {"XDG_STATE_HOME": str(folder / "state")}  # what doctor found without it says nothing of it
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, env=own)


def lines_of(path: Path) -> list[dict]:
    """JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_of(lines: list[dict]) -> list[dict]:
    return [line for line in lines if "index" in line]


def support() -> list[str]:
    """The folders of what tests share."""
    return [str(path) for path in sys.path if "support" in Path(path).parts]


def said(folder: Path, added: str, *commands: str) -> list[int]:
    """The exit codes of commands, run one after the other. What one says goes into the file that is its last word."""
    done = program(folder, added, COMMANDS, json.dumps([command.split() for command in commands]))
    assert done.returncode == 0, done.stderr
    return list(json.loads((folder / "codes").read_text()))
