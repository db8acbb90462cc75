"""What the documents promise and how it is run: their commands, a shell that runs them within limits, and the numbers
of a recording as plain transformers gives them."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
from places import ROOT
from preloaded import Preloaded
from terminal import Terminal
from transformers import AutoModelForCausalLM, PreTrainedModel

DOCUMENTS = ("README.md", "docs/analyze.md", "docs/breakpoints.md", "docs/trace.md")
PROGRAMS = ("tui-entropy", "./scripts/run", "./scripts/test", "jq", "sqlite3", "ssh", "echo")
"""How a line of a document begins that is typed into a shell."""
COMMENT = re.compile(r"\s+# .*$")

SECONDS = 240.0
"""That one command may take, on a machine that is shared: the slowest here takes 40."""
BYTES = 3 << 30
"""That one command and its children may hold in memory: the default model in float32 takes a third of it."""


# --- What is written -----------------------------------------------------------------------------------------------


def commands() -> list[str]:
    """Every line of the documents that is typed into a shell, without its comment, in their order."""
    found = []
    for document in DOCUMENTS:
        for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
            command = COMMENT.sub("", line.strip())
            if command.split(" ")[0] in PROGRAMS and (line.startswith("    ") or document != "README.md"):
                found.append(command)
    return list(dict.fromkeys(found))


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document that are of a language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# --- A shell -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """A folder to work in, with the user's own folders below it; models are where they always are."""

    folder: Path
    env: Mapping[str, str]

    def run(self, line: str, typed: str = "", cwd: Path | None = None) -> Done:
        """Run a line as bash does. Fails if it takes longer or holds more memory than it may."""
        piped: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command, env = ["bash", "-c", line], os.environ | self.env
        with (
            subprocess.Popen(
                command, cwd=cwd or self.folder, env=env, text=True, errors="surrogateescape", **piped
            ) as process,
            limits(process.pid),
        ):
            out, err = process.communicate(typed)
        return Done(process.returncode, out, err)

    @contextmanager
    def screen(self, line: str, size: tuple[int, int] = (120, 36), cwd: Path | None = None) -> Iterator[Terminal]:
        """The line in a terminal; ended when this is left, at the latest."""
        command = ["bash", "-c", line]
        with (
            Terminal(command, *size, env=dict(self.env), cwd=cwd or self.folder) as terminal,
            limits(terminal.process.pid),
        ):
            yield terminal

    @property
    def cold(self) -> Shell:
        """The same, where nothing is imported before a command is."""
        path = self.env["PATH"].replace(f"{self.folder / FORKS}{os.pathsep}", "")
        return Shell(self.folder, {**self.env, "PATH": path, "TUI_ENTROPY_ENGINE": ""})

    @property
    def newest(self) -> Path:
        """The recording of the newest session."""
        return max(self.folder.glob("state/tui-entropy/traces/*.tui"), key=lambda path: path.stat().st_mtime_ns)


FORKS = "forks"
"""Folder of the program whose commands are forks of a process that has imported torch."""


def shell(folder: Path, short: Path, preloaded: Preloaded, env: Mapping[str, str] | None = None) -> Shell:
    """short: a folder for sockets, whose paths may not be long. env: more for the environment of its commands."""
    own = {f"XDG_{name.upper()}_HOME": str(folder / name) for name in ("state", "config")}
    programs = Path(sys.executable).parent
    (folder / FORKS).mkdir()
    preloaded.write_command(folder / FORKS / "tui-entropy", str(programs / "tui-entropy"))
    path = f"{folder / 'bin'}:{folder / FORKS}:{programs}:{os.environ['PATH']}"
    stay = {"TUI_ENTROPY_KEEP": "5m", "TUI_ENTROPY_ENGINE": preloaded.engine}
    return Shell(folder, {**own, **stay, "XDG_RUNTIME_DIR": str(short), "PATH": path, **(env or {})})


@contextmanager
def limits(pid: int, seconds: float = SECONDS, n_bytes: int = BYTES) -> Iterator[None]:
    """Kill a process and all below it when it takes too long or too much memory, and fail then."""
    done, broken = threading.Event(), []

    def watch() -> None:
        end = time.monotonic() + seconds
        while not done.wait(0.5):
            family = _family(pid)
            held = sum(_resident(process) for process in family)
            if held > n_bytes or time.monotonic() > end:
                broken.append(f"it held {held / 2**20:.0f} MiB after {seconds - end + time.monotonic():.0f} s")
                for process in family:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        assert not broken, broken[0]


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


# --- What plain transformers says of a text ------------------------------------------------------------------------


Pushes = Mapping[int, npt.NDArray[np.float32]]
"""What is added to the output of a block (1-based)."""


@dataclass(frozen=True)
class Written:
    """A run as the `steps` of a recording and the events around them tell it."""

    prompt: list[int]
    tokens: list[int]
    numbers: npt.NDArray[np.float64]
    """(steps, 4): entropy, varentropy, surprisal, rank."""
    events: list[tuple[str, dict[str, Any]]]


NUMBERS = "entropy_nats, varentropy_nats2, surprisal_nats, rank"


def recorded(path: Path, run: int = 1) -> Written:
    with closing(sqlite3.connect(path)) as db:
        prompt = db.execute("select token_id from prompt_tokens where run = ? order by position", [run]).fetchall()
        steps = db.execute(f"select token_id, {NUMBERS} from steps where run = ? order by step", [run]).fetchall()
        events = db.execute(
            "select kind, json from events where run = ? or run is null order by seq", [run]
        ).fetchall()
    return Written(
        [token for (token,) in prompt],
        [step[0] for step in steps],
        np.array([step[1:] for step in steps], np.float64).reshape(-1, 4),
        [(kind, json.loads(text)) for kind, text in events],
    )


@lru_cache(1)
def plain(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model


@torch.inference_mode()
def expected(
    folder: Path, prompt: Sequence[int], tokens: Sequence[int], pushes: Mapping[int, Pushes] | None = None
) -> npt.NDArray[np.float64]:
    """(steps, 4) as plain transformers gives them: entropy, varentropy, surprisal, rank of each written token.

    pushes: what is added to the outputs of blocks, from the step that is the key on. A step reads the token before
    it; what the cache holds by then stays as it was.
    """
    model = plain(folder)
    changes = {0: {}, **(pushes or {})}
    starts = [0, *(len(prompt) + step - 1 for step in sorted(changes) if step > 0), len(prompt) + len(tokens) - 1]
    ids, cache, logits = torch.tensor([[*prompt, *tokens]]), None, []
    for (first, last), step in zip(pairwise(starts), sorted(changes), strict=True):
        with added(model, changes[step]):
            out = model(input_ids=ids[:, first:last], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits[0])
    logp = torch.cat(logits)[len(prompt) - 1 :].double().log_softmax(-1)
    surprise = -logp[range(len(tokens)), list(tokens)]
    entropy = -(logp.exp() * logp).sum(-1)
    varentropy = (logp.exp() * (logp + entropy[:, None]) ** 2).sum(-1)
    rank = 1 + (-logp < surprise[:, None]).sum(-1)
    return torch.stack([entropy, varentropy, surprise, rank.double()], 1).numpy()


@contextmanager
def added(model: PreTrainedModel, pushes: Pushes) -> Iterator[None]:
    """Plain hooks that add to the outputs of blocks."""

    def adding(push: npt.NDArray[np.float32]) -> Any:
        return lambda module, inputs, output: (
            (output[0] + torch.from_numpy(push), *output[1:])
            if isinstance(output, tuple)
            else output + torch.from_numpy(push)
        )

    hooks = [model.get_decoder().layers[block - 1].register_forward_hook(adding(v)) for block, v in pushes.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def assert_right(written: Written, folder: Path, pushes: Mapping[int, Pushes] | None = None) -> None:
    """Its numbers are those of plain transformers, to rounding."""
    assert written.tokens and len(written.prompt) > 0
    found, wanted = written.numbers, expected(folder, written.prompt, written.tokens, pushes)
    np.testing.assert_allclose(found[:, :3], wanted[:, :3], atol=3e-4, rtol=1e-4)
    ties = found[:, 3] != wanted[:, 3]
    assert ties.sum() <= math.ceil(len(ties) / 100), (found[ties], wanted[ties])


# --- What is tried -------------------------------------------------------------------------------------------------


def words(line: str) -> list[str]:
    return shlex.split(line, comments=False)


def invocations(line: str) -> Iterator[tuple[str, list[str]]]:
    """The command's name and its words, for every start of the program in a line. No name means `run`."""
    found: list[list[str]] = []
    for word in words(line):
        if word in ("tui-entropy", "./scripts/run"):
            found.append([])
        elif word in ("|", ">"):
            continue
        elif found:
            found[-1].append(word)
    for one in found:
        named = bool(one) and not one[0].startswith("-")
        yield (one[0], one[1:]) if named else ("run", one)
