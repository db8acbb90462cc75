"""What the tests of commands share: shells in folders of their own, with a recording, a hub, texts or an engine.

The inspector, a headless run that is recorded, a probe, an analysis and an engine start from nothing, as they do for
a user (`shell.cold`). Where another option of theirs is tried, torch has been imported before.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flat_vectors
import hub_server
import numpy as np
import promises
import pytest
import safetensors.numpy
import small
from preloaded import Preloaded
from promises import Shell
from tried_commands import FRUIT, NOTES, RECORDING, SERVING, WORDS


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Shell]:
    folder, short = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    made = promises.shell(folder, short, preloaded)
    yield made
    made.run("tui-entropy stop --all")


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Path:
    """A session as the documents record it, made by one of the processes that share the tests."""
    own = tmp_path_factory.getbasetemp()
    kept = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "recording.tui"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed: the others wait for one that is whole
        if not kept.exists():
            made = promises.shell(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s"), preloaded)
            done = made.cold.run(RECORDING)
            assert done.code == 0, done.err
            shutil.copy(made.folder / "story.tui", kept)
    return kept


@pytest.fixture(scope="module")
def story(shell: Shell, recording: Path) -> Shell:
    """A shell in whose folder is a recorded session, under the names that the documents use."""
    kept = shell.folder / "state" / "tui-entropy" / "traces"
    for copy in (shell.folder / "story.tui", shell.folder / "run.tui", kept / "story.tui"):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(recording, copy)
    return shell


@pytest.fixture(scope="module")
def hub_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell that knows a hub on this machine, which has a small model under the name of the documents."""
    folder, short = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("s")
    upstream = small.saved(folder / "upstream")
    with hub_server.serving({"Qwen/Qwen3-0.6B": upstream}, gated=set()) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "cache")}
        with Preloaded(env) as preloaded:
            made = promises.shell(folder, short, preloaded, env)
            yield made
            made.run("tui-entropy stop --all")


@pytest.fixture(scope="module")
def notes(shell):
    (shell.folder / "notes.txt").write_text(NOTES)
    (shell.folder / "chat.json").write_text(
        json.dumps([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Goodbye."}])
    )
    return shell


@pytest.fixture(scope="module")
def texts(notes):
    small.saved_with_two_templates(notes.folder / "named")
    (notes.folder / "words.txt").write_text(WORDS.lower() * 12)
    flat_vectors.flat(notes.folder / "flat.safetensors")
    (notes.folder / "questions.jsonl").write_text(f"{json.dumps(FRUIT)}\nno question\n" * 3)
    for name, shift in (("original", 0.0), ("tuned", 0.05)):
        small.saved(notes.folder / name)
        weights = safetensors.numpy.load_file(notes.folder / name / "model.safetensors")
        more = {key: np.float32(shift) * (np.arange(one.size).reshape(one.shape) % 3) for key, one in weights.items()}
        safetensors.numpy.save_file(
            {key: (one + more[key]).astype(one.dtype) for key, one in weights.items()},
            notes.folder / name / "model.safetensors", {"format": "pt"},
        )  # fmt: skip
    return notes


@pytest.fixture(scope="module")
def vector_files(shell: Shell) -> dict[str, dict[int, Any]]:
    """The vectors of the documents: block (1-based) -> direction, as they stand in files of other programs."""
    return flat_vectors.write_all(shell.folder)


@pytest.fixture(scope="module")
def engine(shell: Shell) -> Iterator[str]:
    """The id of an engine that was started without a screen."""
    done = shell.cold.run(SERVING)
    assert done.code == 0, done.err
    yield done.out.strip()
    shell.run("tui-entropy stop --all")
