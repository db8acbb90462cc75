"""On the default model: the examples of document and docstrings, the notebook, and the numbers of the command."""

import doctest
import json
import pkgutil
import re
import subprocess
import sys
from importlib import import_module

import nbclient
import nbformat
import numpy as np
import pytest
import torch
from msgspec.structs import replace
from places import ROOT
from trace_contents import comparable

import tui_entropy.api
from tui_entropy import Inspector, load_trace, run_grading
from tui_entropy.core import paths
from tui_entropy.records.events import Ready, Started
from tui_entropy.trace import jsonl
from tui_entropy.trace.reader import Trace

pytestmark = pytest.mark.real

PROMPT = "Write a short story about a lighthouse."
TIMES = ("forward_pass_seconds", "sampling_seconds", "at_seconds")
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(scope="module")
def loaded():
    if not (paths.models() / "smollm2").is_dir():
        pytest.skip("the default model is not here: tui-entropy fetch smollm2")
    with Inspector("smollm2", device="cpu") as inspector:
        return inspector.loaded


def failures(test):
    """What an example said that it should not have."""
    said = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(test, out=said.append)
    return "".join(said)


@pytest.fixture
def on_cpu(monkeypatch):
    """Examples name no device, and their numbers are those of a CPU."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_the_examples_of_the_document_say_what_it_says(loaded, on_cpu, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(text, {"folder": tmp_path}, "python.md", None, 0)
    assert len(test.examples) > 40 and failures(test) == ""


def documented():
    for module in pkgutil.iter_modules(tui_entropy.api.__path__):
        found = import_module(f"tui_entropy.api.{module.name}")
        for test in doctest.DocTestFinder(exclude_empty=True).find(found):
            if test.examples and not test.name.startswith("_"):
                yield test


def test_the_examples_of_docstrings_say_what_they_say(loaded, on_cpu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording, n = tmp_path / "recorded.tui", 0
    with Inspector(loaded, trace=recording) as inspector:
        inspector.generate("The capital of France is", chat=False, max_tokens=3)
    with Inspector(loaded) as inspector:
        run = inspector.generate("The capital of France is", chat=False, max_tokens=3)
        known = {"inspector": inspector, "run": run, "recording": recording, "Inspector": Inspector}
        for test in documented():
            inspector.go(run)
            test.globs |= known | {"load_trace": load_trace, "run_grading": run_grading}
            assert failures(test) == "", test.name
            n += 1
    assert n > 25


def test_every_public_method_has_a_docstring():
    for name in tui_entropy.__all__:
        found = getattr(tui_entropy, name)
        assert found.__doc__ or name == "Candidate"
        if isinstance(found, type) and found.__module__.startswith("tui_entropy.api"):
            own = {key: value for key, value in vars(found).items() if callable(value) and key[0] != "_"}
            assert not [key for key, value in own.items() if not value.__doc__]


def test_the_notebook_runs_from_its_first_cell_to_its_last(loaded, on_cpu, tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "inspector.ipynb", as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    drawn = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert len(drawn) >= 4 and all("<script" not in html for html in drawn)
    said = "".join(output.get("text", "") for output in outputs if output.get("name") == "stderr")
    assert not [line for line in said.splitlines() if "tqdm" not in line]  # transformers asks for ipywidgets


def test_it_writes_what_the_command_writes_number_by_number_and_records_the_same(loaded, tmp_path):
    command = [sys.executable, "-m", "tui_entropy", "run", "--headless", "--jsonl", "--device", "cpu", "--seed", "11"]
    command += ["-p", PROMPT, "--max-tokens", "12", "--temperature", "0.9", "--trace", str(tmp_path / "a.tui")]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    told = [line for line in lines if "token_id" in line]
    with Inspector(loaded, trace=tmp_path / "b.tui") as inspector:
        run = inspector.write(PROMPT, max_tokens=12, temperature=0.9, seed=11)
        steps = [json.loads(jsonl.step(step)) for step in run]
    assert len(told) == len(steps) > 5
    for one, other in zip(told, steps, strict=True):
        assert {key: one[key] for key in one.keys() - {*TIMES}} == {
            key: other[key] for key in other.keys() - {*TIMES}
        }
    (theirs,), (ours,) = load_trace(tmp_path / "a.tui"), load_trace(tmp_path / "b.tui")
    still = dict(at=0.0, forward_seconds=0.0, sample_seconds=0.0)
    assert comparable(*(replace(step, **still) for step in theirs)) == comparable(
        *(replace(step, **still) for step in ours)
    )
    assert np.array_equal(theirs.prompt_scores["entropy"], ours.prompt_scores["entropy"], equal_nan=True)
    assert events(tmp_path / "a.tui") == events(tmp_path / "b.tui")


def events(path):
    """Those of a trace, without times, and what a file says of itself."""
    found = []
    for _, _, event in Trace.open(path).events():
        if isinstance(event, Ready):
            event = replace(event, trace=None, probes=())
        assert not isinstance(event, Started) or event.run == 1
        found.append(re.sub(r"seconds=[\d.e-]+", "seconds=0", repr(event)))
    return found
