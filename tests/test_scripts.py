"""Every program of scripts/ starts, and what it and the tests name of the package is there, also what they import or
patch only once they have begun."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from places import ROOT

PROGRAMS = [path for path in sorted((ROOT / "scripts").iterdir()) if path.is_file() and not path.suffix]
PYTHON = [
    *(path for path in PROGRAMS if "python" in path.read_text().split("\n", 1)[0]),
    *sorted((ROOT / "scripts" / "benchmarks").glob("*.py")),
]
WITH_HELP = [path for path in PYTHON if path in PROGRAMS and "argparse.ArgumentParser(" in path.read_text()]
DOTTED = re.compile(r"tui_entropy(\.\w+)+")


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name in it) of every import, wherever in a file it stands; '' for the module alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def patched(tree: ast.AST) -> Iterator[str]:
    """Every name of the package that a call is given as text, as monkeypatch.setattr and mocks are."""
    for node in ast.walk(tree):
        first = node.args[0] if isinstance(node, ast.Call) and node.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str) and DOTTED.fullmatch(first.value):
            yield first.value


def missing(module: str, name: str) -> str:
    """What of an import is not there; a package that nobody has to have is none of it."""
    ours = module.split(".")[0] == "tui_entropy" or (ROOT / "scripts/benchmarks" / f"{module}.py").exists()
    if not ours and importlib.util.find_spec(module.split(".")[0]) is None:
        return ""
    try:
        found = importlib.import_module(module)
        if name and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ImportError as error:
        return str(error)
    return ""


@pytest.fixture
def beside(monkeypatch):
    """Modules of scripts/benchmarks can be imported, as by scripts/bench."""
    folder = ROOT / "scripts" / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield
    for file in folder.glob("*.py"):
        sys.modules.pop(file.stem, None)


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: file.name)
def test_what_a_script_imports_is_there(beside, file):
    names = set(imported(ast.parse(file.read_text())))
    assert names and not {f"{module} {name}": why for module, name in names if (why := missing(module, name))}


def test_what_the_tests_patch_by_name_is_there():
    names = {name for file in sorted((ROOT / "tests").rglob("*.py")) for name in patched(ast.parse(file.read_text()))}
    assert names
    for name in sorted(names):
        pkgutil.resolve_name(name)  # raises where there is nothing of that name


@pytest.mark.parametrize("program", WITH_HELP, ids=lambda file: file.name)
def test_a_program_with_options_starts(program):
    done = subprocess.run([sys.executable, str(program), "--help"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and not done.stderr, done.stderr


@pytest.mark.parametrize("program", [each for each in PROGRAMS if each not in PYTHON], ids=lambda file: file.name)
def test_a_shell_script_can_be_read(program):
    assert subprocess.run(["bash", "-n", str(program)], capture_output=True).stderr == b""


def test_every_program_is_looked_at():
    assert {each.name for each in PROGRAMS} >= {"bench", "fuzz", "golden", "screenshot", "run", "test"}
    assert {each.name for each in WITH_HELP} >= {"bench", "fuzz", "golden", "screenshot"}


def test_every_section_of_the_bench_is_there(beside):
    tree = ast.parse((ROOT / "scripts" / "bench").read_text())
    (sections,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SECTIONS"
    )
    assert len(sections) > 20
    assert [name for name, (module, function) in sections.items() if missing(module, function)] == []
