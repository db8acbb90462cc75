"""An engine that was killed, and another one that goes on with what it recorded."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
import tiny
from msgspec.structs import replace
from recorded_sessions import vector_file
from small import saved, tokenizer
from transformers import LlamaConfig
from worker_engine import Engine

from tui_entropy.records.commands import (
    Advance,
    Branch,
    Continue,
    Follow,
    Load,
    Reopen,
    SetBreakpoints,
    SetKnobs,
    SetVector,
    Write,
)
from tui_entropy.records.events import Differences, Failed, Paused, Prefilled, Proposed, Ready, Refused
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace
from tui_entropy.transport import connection

KNOBS = Knobs(temperature=1.0, top_k=0, seed=1, banned=(2,))
FIRST = (Breakpoint(1, "step > 0"),)
TEXT = Write("ABCDEFGHIJ", None, False, 200, KNOBS)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("model") / "model")


def engine(folder: Path) -> Engine:
    folder.mkdir()
    return Engine(folder)


def act(heard: Engine, *commands) -> None:
    for command in commands:
        heard.end.send(command)
        heard.until(Paused)


def first_part(heard: Engine, folder: Path) -> None:
    """Stopped before the first token; then as many as are asked for, whenever that is heard."""
    heard.until(Paused)
    heard.end.send(SetBreakpoints(()))
    act(heard, Advance(12), Branch(1, 5, pause=True), Advance(6))
    heard.end.send(SetVector(vector_file(folder)))
    heard.end.send(SetKnobs(replace(KNOBS, temperature=0.8)))
    act(heard, Advance(6))


def texts(trace: Path) -> dict[int, list[int]]:
    log = Trace.open(trace).log()
    return {number: list(run.steps.ids) for number, run in log.runs.items()}


def await_record(trace: Path, n: int) -> None:
    """Until so many tokens of the second run are on disk: what was written a moment before it is killed, an engine
    may not have recorded yet."""
    deadline = time.monotonic() + 20
    while len(texts(trace).get(2, ())) < n:
        assert time.monotonic() < deadline, "what is written is on disk soon"
        time.sleep(0.05)


def test_the_text_goes_on_after_the_engine_was_killed(tmp_path, model):
    """As that of an engine which was not, and the recording stays as it is to the byte."""
    files = {name: tmp_path / f"{name}.tui" for name in ("whole", "half", "again")}
    for name in ("whole", "half"):
        one = engine(tmp_path / name)
        one.end.send(Load(ModelSpec(str(model)), trace=str(files[name]), keep=60, write=TEXT, breakpoints=FIRST))
        first_part(one, tmp_path)
        if name == "whole":
            act(one, Advance(20))
        await_record(files[name], 37 if name == "whole" else 17)
        one.close()  # kill -9
    before = {path.name: path.read_bytes() for path in tmp_path.glob("half.tui*") if not path.name.endswith("shm")}
    again = engine(tmp_path / "again")
    reopen = Reopen(str(files["half"]))
    again.end.send(Load(ModelSpec(str(model)), trace=str(files["again"]), keep=60, reopen=reopen))
    assert again.until(Ready).recording == str(files["half"])
    assert again.until(Prefilled).total == 10 + len(texts(files["half"])[2])
    assert again.until(Paused).reason.startswith("as recorded")
    again.until(Proposed)
    act(again, Advance(20))
    late = connection.connect(again.socket)
    late.send(Follow())
    heard, log = [], SessionView()
    while not any(isinstance(event, Proposed) for event in heard):
        heard += late.receive(5)
    late.close()
    for event in heard:
        log.append(event)
    again.close()
    whole, there = texts(files["whole"]), texts(files["again"])
    assert whole == there and [len(one) for one in there.values()][1] >= 30
    assert {number: list(run.steps.ids) for number, run in log.runs.items()} == there  # a screen that comes later
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("half.tui*") if path.name in before}


@pytest.fixture(scope="module")
def recording(tmp_path_factory, model) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    one = engine(folder / "engine")
    one.end.send(Load(ModelSpec(str(model)), trace=str(folder / "a.tui"), keep=60, write=TEXT, breakpoints=FIRST))
    first_part(one, folder)
    one.close()
    return folder / "a.tui"


def changed_card(recording: Path, to: Path, **fields: object) -> Path:
    """The recording as one of a model with these fields in its card."""
    shutil.copy(recording, to)
    shutil.copy(f"{recording}-wal", f"{to}-wal")
    with closing(sqlite3.connect(to)) as db, db:
        ((seq, text),) = db.execute("SELECT seq, json FROM events WHERE kind = 'ready'")
        ready = json.loads(text)
        ready["card"] |= fields
        db.execute("UPDATE events SET json = ? WHERE seq = ?", (json.dumps(ready), seq))
    return to


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "other"}, "its model was other and is model"),
        ({"config_hash": "0" * 64}, "its configuration hash was 00000000 and is "),
        ({"tokenizer_hash": "1" * 64}, "its tokenizer hash was 11111111 and is "),
    ],
)
def test_what_differs_is_asked_about_before_anything_is_gone_on_with(tmp_path, model, recording, fields, said):
    other = changed_card(recording, tmp_path / "other.tui", **fields)
    one = engine(tmp_path / "engine")
    reopen = Reopen(str(other))
    one.end.send(Load(ModelSpec(str(model)), trace=str(tmp_path / "b.tui"), keep=60, reopen=reopen))
    (found,) = one.until(Differences).found
    assert found.startswith(said)
    one.end.send(Continue())
    assert "not gone on with yet" in one.until(Refused).sentence
    one.end.send(replace(reopen, despite=True))
    assert one.until(Paused).reason.startswith("as recorded")
    act(one, Advance(2))
    one.close()
    assert not any(isinstance(event, Differences) for _, _, event in Trace.open(tmp_path / "b.tui").events())


def test_nothing_is_asked_of_a_recording_from_before_there_were_hashes(tmp_path, model, recording):
    old = changed_card(recording, tmp_path / "old.tui", config_hash="", tokenizer_hash="")
    one = engine(tmp_path / "engine")
    one.end.send(Load(ModelSpec(str(model)), keep=60, reopen=Reopen(str(old))))
    one.until(Paused)
    assert not any(isinstance(event, Differences) for event in one.heard)
    one.close()


def test_a_model_of_another_shape_is_refused_in_a_sentence(tmp_path, recording):
    one = engine(tmp_path / "engine")
    other = tmp_path / "other"
    tiny.built(LlamaConfig(**tiny.SHAPE | {"num_hidden_layers": 2})).save_pretrained(other)
    tokenizer(tiny.VOCAB).save_pretrained(other)
    one.end.send(Load(ModelSpec(str(other)), keep=60, reopen=Reopen(str(recording))))
    failed = one.until(Failed)
    assert failed.fatal and "has" in failed.sentence and "--model" in failed.sentence and "\n" not in failed.sentence
    one.close()
