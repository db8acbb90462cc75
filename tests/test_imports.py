"""Who may import whom. Each claim is looked up in the sys.modules of a process that imported that module first."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tui_entropy

HEAVY = {"torch", "transformers", "textual", "rich", "numpy", "typer", "plotext", "gguf", "safetensors", "psutil"}
SCREEN = {"textual", "rich", "plotext", "typer"}
SENT = "tui_entropy.servers.vllm_lens.worker_hook"
"""Runs in a server, to which its text is sent; nothing here imports it."""
SHARED = {"core", "stages", "records", "metrics", "breakpoints", "state", "config", "trace", "transport"}
"""Rooms that engine and screen both know."""

FORK_AND_LOOK = """
import json, os, sys
exec(sys.argv[1])
before = set(sys.modules)
for name in json.loads(sys.argv[2]):
    answer, question = os.pipe()
    if os.fork() == 0:
        try:
            __import__(name)
            report = sorted(set(sys.modules) - before)
        except BaseException as error:
            report = [f"{type(error).__name__}: {error}"]
        with os.fdopen(question, "w") as pipe:
            json.dump(report, pipe)
        os._exit(0)
    os.close(question)
    with os.fdopen(answer) as pipe:
        print(pipe.read())
    os.wait()
"""


def modules(package: str, folder: Path) -> list[str]:
    """Every module of a package, found without importing any."""
    names = [package]
    for found in pkgutil.iter_modules([str(folder)]):
        name = f"{package}.{found.name}"
        names += modules(name, folder / found.name) if found.ispkg else [name]
    return names


OURS = [name for name in modules("tui_entropy", Path(tui_entropy.__file__).parent) if "__main__" not in name]


def side(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def strangers(module: str) -> set[str]:
    """What importing a module must not bring along."""
    match side(module):
        case "engine" | "analysis" | "serving" | "api":
            return SCREEN | {"tui_entropy.ui", "tui_entropy.cli"}
        case "ui":
            return HEAVY - {"textual", "rich", "plotext"} | {"tui_entropy.engine", "tui_entropy.cli"}
        case "cli":
            return HEAVY - {"typer"} | {"tui_entropy.engine", "tui_entropy.ui"}
        case _ if module == SENT:
            return HEAVY - {"torch", "numpy"} | {"tui_entropy.engine", "tui_entropy.ui"}
        case _:
            return HEAVY | {"tui_entropy.engine", "tui_entropy.ui"}


def look(names: list[str], first: str = "") -> dict[str, set[str]]:
    """Module -> what importing it loads. Each in a fork of a process that has run `first` and nothing of ours."""
    command = [sys.executable, "-c", FORK_AND_LOOK, first, json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name: set(json.loads(line)) for name, line in zip(names, done.stdout.splitlines(), strict=True)}


FIRST = {
    "engine": "import gguf, psutil, safetensors.torch, torch, transformers, transformers.modeling_utils\n"
    "from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel",
    "ui": "import plotext, textual.app, textual.screen, textual.widgets",
    "cli": "import typer",
}
"""Side -> what it may bring along and takes long: there before the forks, which so cost a hundredth."""


def kind(module: str) -> str:
    """A side, and with it those that may bring along the same."""
    return "engine" if side(module) in ("analysis", "api") else side(module)


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Module -> what importing it loads."""
    found: dict[str, set[str]] = {}
    for one in sorted({*map(kind, OURS)}):
        found |= look([name for name in OURS if kind(name) == one], FIRST.get(one, ""))
    return found


@pytest.mark.parametrize("module", OURS)
def test_a_module_can_be_imported_first_and_keeps_to_its_side(module: str, imported: dict[str, set[str]]) -> None:
    assert module in imported[module], imported[module]
    assert strangers(module) & imported[module] == set()


def test_the_engine_process_listens_before_torch_is_there() -> None:
    worker = "tui_entropy.serving.worker"
    assert {"torch", "transformers", "numpy"} & look([worker])[worker] == set()


def test_no_view_knows_another(imported: dict[str, set[str]]) -> None:
    for room in ("panes", "pages"):
        inside = f"tui_entropy.ui.{room}."
        views = {name for name in OURS if name.startswith(inside)} - {"tui_entropy.ui.pages.runs"}  # a folder of them
        assert views
        for view in views - {"tui_entropy.ui.pages.page"}:
            assert imported[view] & views == {view}


def test_what_engine_and_screen_share_needs_msgspec_and_platformdirs_only(imported: dict[str, set[str]]) -> None:
    theirs = {"tui_entropy", "msgspec", "platformdirs", "typing_extensions"}  # the last is msgspec's
    for name in (name for name in OURS if side(name) in SHARED):
        tops = {module.split(".")[0] for module in imported[name]}
        assert {top for top in tops if top not in sys.stdlib_module_names and not top.startswith("_")} <= theirs


def test_help_is_answered_without_screen_or_model() -> None:
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); import tui_entropy.cli as c; c.main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert (HEAVY - {"typer"}) & set(done.stdout.splitlines()[-1].split()) == set()
