"""Whatever is in the files of a model, it is loaded and writes, or is refused in a sentence."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf_files
import numpy as np
import pytest
import small
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import HOSTILE, changed, damaged, encoded, is_a_sentence, odd_json, odd_object, odd_texts, written
from safetensors.numpy import save

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.steering import control_vector
from tui_entropy.records.commands import Write
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs

JSON = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json")
OF_CONFIG = (
    "sliding_window", "layer_types", "text_config", "eos_token_id", "rope_scaling", "quantization_config", "auto_map",
    "torch_dtype", "attention_chunk_size", "is_decoder", "tie_word_embeddings", "num_experts", "_attn_implementation",
)  # fmt: skip
"""What a configuration may hold beside what that of a small model has."""
SECONDS = 20.0
"""For a model that is refused or writes two tokens; the slowest here takes one."""

few = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
many = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of its own for what is converted and for reports."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.write(tmp_path_factory.mktemp("gguf") / "weights.gguf", tiny.llama())


@contextmanager
def in_time() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SECONDS


def refusal(name: Path) -> str:
    """Load it and let it write two tokens; what it is refused with, nothing where it is not."""
    try:
        with in_time():
            loaded = load(ModelSpec(str(name), device="cpu"), lambda _: None)
            with open_instruments(loaded, keep=0) as instruments:
                session = Session(loaded, instruments, lambda _: None)
                session.begin(Write("ab", None, None, 2, Knobs()))
                while session.active:
                    session.advance()
    except UserError as refused:
        assert is_a_sentence(str(refused)), ascii(str(refused))
        return str(refused)
    return ""


@contextmanager
def with_file(model: Path, name: str, data: bytes) -> Iterator[Path]:
    """The model's folder while one of its files is another."""
    whole = (model / name).read_bytes() if (model / name).exists() else None
    written(model / name, data)
    try:
        yield model
    finally:
        if whole is None:
            (model / name).unlink()
        else:
            written(model / name, whole)


def objects(model: Path, name: str) -> dict:
    return json.loads((model / name).read_text()) if (model / name).exists() else {}


def fuzz(model: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(JSON))
    value = objects(model, name)
    if name == "config.json" and data.draw(st.booleans()):
        made = encoded(value | {data.draw(st.sampled_from(OF_CONFIG)): data.draw(odd_json)})
    else:
        made = data.draw(odd_object(value or {"a": 1}))
    with with_file(model, name, made):
        refusal(model)


@few
@given(data=st.data())
def test_whatever_its_json_files_say_it_writes_or_is_refused_in_a_sentence(model, data):
    fuzz(model, data)


@pytest.mark.slow
@many
@given(data=st.data())
def test_whatever_its_json_files_say_for_long(model, data):
    fuzz(model, data)


@few
@given(data=st.data())
def test_weights_with_a_damaged_header_are_read_or_refused(model, data):
    whole = (model / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    if data.draw(st.booleans()):
        made = data.draw(damaged(whole, 8 + length))
    else:
        name = data.draw(st.sampled_from(sorted(header)))
        field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        path = (name, field) if name != "__metadata__" else (name,)
        encoded_header = encoded(changed(header, path, data.draw(odd_json)))
        made = struct.pack("<Q", len(encoded_header)) + encoded_header + whole[8 + length :]
    with with_file(model, "model.safetensors", made):
        refusal(model)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("config.json", {"sliding_window": 0}, "sliding_window is 0 in config.json"),
        ("config.json", {"sliding_window": "x"}, "sliding_window is x in config.json"),
        ("config.json", {"text_config": {}}, "the part that is of text is no configuration"),
        ("generation_config.json", {"eos_token_id": 2.5}, "eos_token_id is 2.5, where the ids of tokens were wanted"),
        ("generation_config.json", {"eos_token_id": [[2]]}, "eos_token_id is [2], where the ids of tokens were"),
        (
            "tokenizer.json",
            {"model": {"type": "WordLevel", "vocab": {"x": 3}, "unk_token": "?"}},
            "the model's tokenizer cannot read 'ab' (WordLevel error: Missing [UNK] token",
        ),
        ("tokenizer.json", {"version": "9.0"}, "the tokenizer of "),
        ("tokenizer.json", {"model": {"type": HOSTILE}}, "the tokenizer of "),
        ("config.json", {"model_type": HOSTILE, "architectures": [HOSTILE]}, "␛]0;owned␇‹009B›31m"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(model, name, change, said):
    with with_file(model, name, encoded(objects(model, name) | change)):
        assert said in refusal(model)


def test_a_folder_that_fits_together_in_no_way_leaves_a_report_beside_the_sentence(model, monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError(HOSTILE)

    monkeypatch.setattr("tui_entropy.engine.loading.loader.architecture_of", broken)
    said = refusal(model)
    assert "cannot be used here (KeyError: KeyError: " in said
    (report,) = [word for word in said.split() if word.endswith(".txt")]
    assert "in broken" in Path(report).read_text()


# --- GGUF ----------------------------------------------------------------------------------------------------------


def header_end(weights: Path) -> int:
    return weights.read_bytes().index(b"output_norm.weight") + 2000


@few
@given(data=st.data())
def test_a_damaged_gguf_file_is_converted_or_refused(weights, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "weights.gguf"
    refusal(written(path, data.draw(damaged(weights.read_bytes(), header_end(weights)))))


KEYS = (
    "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type", "tokenizer.ggml.model",
    "tokenizer.ggml.pre", "tokenizer.ggml.bos_token_id", "llama.context_length", "llama.block_count",
    "llama.attention.head_count", "llama.embedding_length", "general.architecture", "token_embd.weight",
    "output_norm.weight", "blk.0.attn_q.weight",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_gguf_file_without_one_of_its_parts_is_told_so_in_a_sentence(weights, tmp_path, key):
    """The part is there under another name of the same length, so that all else stays as it is."""
    other = key[:-1] + "_"
    path = written(tmp_path / "weights.gguf", weights.read_bytes().replace(key.encode(), other.encode()))
    said = refusal(path)
    if key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges"):
        assert "lacks 'tokens'" in said or "lacks 'merges'" in said


# --- Control vectors -----------------------------------------------------------------------------------------------


@few
@given(data=st.data())
def test_a_damaged_control_vector_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("vectors")
    made = control_vector.ControlVector("warm", {n: np.ones(32, np.float32) for n in (2, 3)})
    path = folder / f"warm{data.draw(st.sampled_from(['.gguf', '.safetensors']))}"
    if path.suffix == ".gguf":
        control_vector.save_gguf(made, path, data.draw(st.sampled_from(["llama", HOSTILE])))
    else:
        name = f"direction.{data.draw(st.sampled_from(['1', '0', '9' * 5000, '-1', 'x']) | odd_texts)}"
        kind = data.draw(st.sampled_from([np.float32, np.float16, np.int8, np.bool_]))
        shape = data.draw(st.sampled_from([(32,), (1, 32), (0,), ()]))
        name = name.encode(errors="replace").decode()
        path.write_bytes(save({name: np.ones(shape, kind)}, {"model": HOSTILE}))
    written(path, data.draw(st.just(path.read_bytes()) | damaged(path.read_bytes(), 400)))
    try:
        with in_time():
            control_vector.check(control_vector.load(path), 4, 32)
    except UserError as refused:
        assert is_a_sentence(str(refused)), ascii(str(refused))
    shutil.rmtree(folder)
