"""What others say never reaches a terminal raw: every command that prints, with hostile bytes in every field that it
can carry, in a pseudo-terminal whose bytes are scanned. A file or a pipe gets every byte of a text."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
import xml.etree.ElementTree
from contextlib import closing
from pathlib import Path
from typing import Any

import fake_engine
import gguf_files
import msgspec
import numpy as np
import pytest
import recordings
import small
import tiny
from fork_server import Done, ForkServer
from fuzzing.scanner import Scanner
from msgspec.structs import replace
from odd_values import HOSTILE, written
from safetensors.numpy import save
from watchers import FAKE

from tui_entropy.export import registry
from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import Labelled, Ready
from tui_entropy.records.sampling import Knobs
from tui_entropy.trace.writer import Recorder

pytestmark = pytest.mark.pty

NAME = HOSTILE.replace("\n", "")
"""In names of files, of which one line each is read elsewhere."""


def hostile(value: Any) -> Any:
    """The same record with that in every text and in all bytes of it."""
    match value:
        case str():
            return f"{value}{HOSTILE}"
        case bytes():
            return value + HOSTILE.encode()
        case tuple():
            return tuple(map(hostile, value))
        case dict():
            return {hostile(key): hostile(each) for key, each in value.items()}
        case Knobs():
            return replace(value, clarifier=HOSTILE, dry_breakers=(HOSTILE,))
        case msgspec.Struct() if not isinstance(value, Grid):
            return replace(value, **{name: hostile(getattr(value, name)) for name in value.__struct_fields__})
    return value


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / f"run{NAME}.tui"
    recorder = Recorder(path)
    recorder.take(hostile(Ready(fake_engine.card(3, 2), fake_engine.vectors(3))))
    for event in (*recordings.session(12, layers=3, heads=2), Labelled(1, "name", True)):
        recorder.take(hostile(event))
    recorder.close()
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(tmp_path_factory.mktemp("models") / f"model{NAME}")


def clean(done: Done, codes: tuple[int, ...] = (0, 2, 3)) -> Done:
    """Nothing in what a terminal got is obeyed by it, or unknown to a person."""
    assert not Scanner().faults(done.out), Scanner().faults(done.out)
    assert done.code in codes and b"Traceback" not in done.out and b"fault of the program" not in done.out, done.out
    return done


READS = [
    ["show"], ["merge"], ["replay", "--run", "7"], ["replay", "--theme", HOSTILE], ["replay", "--color", HOSTILE],
    ["replay", "--snapshot", HOSTILE], ["replay", "--snapshot", f"/nowhere/{NAME}.svg"], ["export", "--to", HOSTILE],
    ["export", "--to", "csv", "-o", f"/nowhere/{NAME}"], ["export", "--to", "csv"], ["show", "--run", "7"],
    *(["export", "--to", kind, "-o", "-"] for kind in sorted(registry.FORMATS)),
]  # fmt: skip


@pytest.mark.parametrize("line", READS, ids=lambda line: " ".join(line).encode("ascii", "replace").decode()[:40])
def test_what_is_told_of_a_trace(commands, trace, line):
    command, *rest = line
    done = clean(commands.in_terminal(command, str(trace), *rest))
    assert done.out.strip()


def test_the_list_of_traces(commands, trace):
    kept = Path(commands.env["XDG_STATE_HOME"]) / "tui-entropy" / "traces"
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copy(trace, kept)
    try:
        assert b"run" in clean(commands.in_terminal("traces")).out
    finally:
        (kept / trace.name).unlink()


def test_a_pipe_gets_every_byte_and_json_lines_are_safe_to_cat_and_lose_nothing(commands, trace):
    assert HOSTILE.encode() in commands.run("show", str(trace)).out
    assert HOSTILE.encode() in commands.run("merge", str(trace)).out
    lines = commands.run("export", str(trace), "--to", "jsonl", "-o", "-").out
    assert not Scanner().faults(lines)
    objects = [json.loads(line) for line in lines.splitlines()]
    steps = [one for one in objects if "index" in one]
    assert len(steps) == 12 and all(one["text"].endswith(HOSTILE) for one in steps)


def test_pages_and_figures_are_valid_whatever_a_trace_is_called(commands, trace):
    page, figure, picture = (commands.cwd / f"out.{kind}" for kind in ("html", "svg", "picture.svg"))
    for kind, out in (("html", page), ("svg", figure)):
        assert commands.run("export", str(trace), "--to", kind, "-o", str(out)).code == 0
    assert commands.run("replay", str(trace), "--snapshot", str(picture)).code == 0
    for out in (figure, picture):
        xml.etree.ElementTree.fromstring(out.read_text())
    assert not any(letter in page.read_text().partition("</title>")[0] for letter in "\x1b\x07\x9b\u202e\x7f")


def test_what_sqlite_says_of_a_damaged_trace(commands, trace):
    path = commands.cwd / f"schema{NAME}.tui"
    shutil.copy(trace, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_master SET name = ?, sql = ? WHERE name = 'steps'", (HOSTILE, f"CREATE {HOSTILE}"))
    for command in ("show", "merge", "traces"):
        clean(commands.in_terminal(command, *([str(path)] if command != "traces" else [])))


def test_the_list_of_engines_and_their_end(commands):
    env = {"TUI_ENTROPY_ENGINE": shlex.join(FAKE)}
    begun = commands.run("serve", "--model", HOSTILE, "-p", HOSTILE, "--no-trace", "--keep", "1m", env=env)
    assert begun.code == 0, begun.said
    try:
        listed = clean(commands.in_terminal("attach", "--list"))
        assert "␛]0;owned␇".encode() in listed.out
        clean(commands.in_terminal("attach", HOSTILE))
        clean(commands.in_terminal("attach", "--socket", f"/nowhere/{NAME}", typed=b"qqq"), (0, 1, 3))
        clean(commands.in_terminal("stop", HOSTILE))
    finally:
        assert commands.run("stop", "--all").code == 0


# --- Models --------------------------------------------------------------------------------------------------------


RUN = ["run", "--headless", "--max-tokens", "3", "--no-trace"]


@pytest.mark.parametrize(
    "line",
    [
        ["-p", HOSTILE], ["-p", HOSTILE, "--jsonl"], ["-p", "a", "--system", HOSTILE],
        ["-p", "a", "--watch", HOSTILE],
        ["-p", "a", "--break", HOSTILE], ["-p", "a", "--vector", f"{HOSTILE}:1"], ["-p", "a", "--order", HOSTILE],
        ["-p", "a", "--device", HOSTILE], ["-p", "a", "--dtype", HOSTILE], ["-p", "a", "--products", HOSTILE],
        ["-p", "a", "--chat-template", HOSTILE], ["-p", "a", "--banned", HOSTILE], ["-p", "a", "--adaptive", HOSTILE],
        ["-p", "a", "--clarifier", HOSTILE], ["-p", "a", "--trace", f"/nowhere/{NAME}.tui"],
        ["-p", "a", "--temperature", HOSTILE], ["-p", "a", "--revision", HOSTILE],
    ],
    ids=lambda line: line[-2] if len(line) > 3 else line[-1][:7].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_what_a_run_quotes(commands, model, line):
    clean(commands.in_terminal(*RUN, "--model", str(model), *line), (0, 2, 3))


def test_a_record_of_a_run_that_only_a_pipe_may_have_raw(commands, model):
    trace = commands.cwd / f"written{NAME}.tui"
    done = clean(commands.in_terminal(*RUN[:-1], "--model", str(model), "-p", HOSTILE, "--trace", str(trace)))
    assert b"recorded in " in done.out
    assert HOSTILE.encode() in commands.run("merge", str(trace)).out


def changed(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


BROKEN = {
    "model type": lambda folder: changed(folder, "config.json", model_type=HOSTILE, architectures=[HOSTILE]),
    "architecture": lambda folder: changed(folder, "config.json", architectures=[HOSTILE]),
    "code": lambda folder: changed(folder, "config.json", model_type=HOSTILE, auto_map={"AutoConfig": HOSTILE}),
    "activation": lambda folder: changed(folder, "config.json", hidden_act=HOSTILE),
    "window": lambda folder: changed(folder, "config.json", sliding_window=HOSTILE),
    "ends": lambda folder: changed(folder, "generation_config.json", eos_token_id=HOSTILE),
    "template": lambda folder: changed(
        folder, "tokenizer_config.json", chat_template=f"{{{{ raise_exception({HOSTILE!r}) }}}}"
    ),
    "templates": lambda folder: changed(
        folder, "tokenizer_config.json", chat_template=[{"name": f"{HOSTILE}{n}", "template": "x"} for n in "ab"]
    ),
    "template's text": lambda folder: changed(folder, "tokenizer_config.json", chat_template=HOSTILE),
    "tokenizer": lambda folder: changed(folder, "tokenizer.json", model={"type": HOSTILE}),
    "normalizer": lambda folder: changed(folder, "tokenizer.json", normalizer={"type": HOSTILE}),
    "weights": lambda folder: written(folder / "model.safetensors", save({HOSTILE: np.ones(3, "float32")})),
    "provenance": lambda folder: written(
        folder / "provenance.json", json.dumps({"title": HOSTILE, "source": HOSTILE, "note": HOSTILE}).encode()
    ),
}


@pytest.mark.parametrize("part", BROKEN)
@pytest.mark.parametrize("command", ["run", "doctor"])
def test_what_is_said_of_a_models_files(commands: ForkServer, model: Path, part: str, command: str):
    folder = shutil.copytree(model, model.with_name(f"broken{NAME}"), dirs_exist_ok=True)
    BROKEN[part](folder)
    line = [*RUN, "-p", "a"] if command == "run" else ["doctor", "--json"]
    if command == "doctor" and part in ("template", "templates", "template's text", "provenance", "architecture"):
        pytest.skip("doctor examines it whole, which takes long")
    clean(commands.in_terminal(*line, "--model", str(folder)))


def test_what_is_said_of_a_gguf_file_and_of_a_vector(commands, model):
    path = gguf_files.write(commands.cwd / f"weights{NAME}.gguf", tiny.llama(), general__name=HOSTILE)
    clean(commands.in_terminal(*RUN, "-p", "a", "--model", str(path)))
    damaged = path.read_bytes().replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.\x1b]0;\x07\x9b")
    clean(
        commands.in_terminal(*RUN, "-p", "a", "--model", str(written(commands.cwd / f"b{NAME}.gguf", damaged))), (3,)
    )
    vector = commands.cwd / f"vector{NAME}.safetensors"
    for name in (HOSTILE, f"direction.1{HOSTILE}", "direction.1"):
        written(vector, save({name: np.ones(32, "float32")}, {"model": HOSTILE}))
        clean(commands.in_terminal(*RUN, "-p", "a", "--model", str(model), "--vector", f"{vector}:1"))
