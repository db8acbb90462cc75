"""Loading a model: what comes out, and one sentence for each way in which it can fail."""

import json
import struct
from pathlib import Path

import gguf_files
import psutil
import pytest
import small
import tiny
import torch
from safetensors.torch import load_file, save_file

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.engine.loading import loader
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sources.safetensors_header import checkpoint_of
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec


def loaded(folder: Path, **spec: object) -> Loaded:
    return load(ModelSpec(str(folder), **({"device": "cpu"} | spec)), lambda progress: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small.saved(tmp_path / "mine")


def refit(folder: Path, **changes: object) -> None:
    """Change the folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_loaded_model_is_ready_to_be_watched(folder: Path) -> None:
    reports: list[Progress] = []
    result = load(ModelSpec(str(folder), device="cpu"), reports.append)
    assert not result.model.training
    assert not any(parameter.requires_grad for parameter in result.model.parameters())
    assert result.model.config._attn_implementation == "sdpa"
    assert [progress.stage for progress in reports] == ["reading the tokenizer", "loading mine"]
    ids = tiny.prompt(9)
    with torch.inference_mode():
        assert torch.equal(result.model(ids).logits, tiny.llama()(ids).logits)


def test_the_card_says_what_was_loaded(folder: Path) -> None:
    card = loaded(folder).card
    assert (card.name, card.source, card.note, card.revision) == ("mine", str(folder), "", None)
    assert (card.device, card.dtype) == ("cpu", "float32")
    assert (card.n_layers, card.n_heads, card.n_kv_heads, card.d_model) == (4, 4, 2, 32)
    assert (card.vocab, card.context, card.has_chat_template) == (tiny.VOCAB, 256, False)
    assert card.layer_kinds == ("full",) * 4
    assert set(card.versions) == {"tui_entropy", "transformers", "torch", "python"}


def test_a_gguf_file_is_loaded_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "models", lambda: tmp_path / "kept")
    result = loaded(gguf_files.write(tmp_path / "mine.gguf", tiny.llama()))
    assert (result.card.name, result.card.note, result.card.has_chat_template) == ("mine", "F32", True)
    assert result.tokenizer.eos_ids == {2}


def test_ends_of_text_come_from_the_generation_config_too(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 9]}')
    assert loaded(folder).tokenizer.eos_ids == {2, 5, 9}


# --- dtype ---------------------------------------------------------------------------------------------------


@pytest.fixture
def half(tmp_path: Path) -> Path:
    tiny.llama().bfloat16().save_pretrained(tmp_path / "half")
    small.tokenizer(tiny.VOCAB).save_pretrained(tmp_path / "half")
    return tmp_path / "half"


def test_a_cpu_computes_in_float32_unless_told_otherwise(half: Path) -> None:
    assert loaded(half).card.dtype == "float32"
    assert loaded(half, dtype="bfloat16").card.dtype == "bfloat16"


def test_where_float32_would_crowd_the_memory_the_checkpoint_s_own_dtype_is_kept(
    half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_weights = checkpoint_of(half).n_weights
    monkeypatch.setattr(loader, "free_bytes", lambda device: n_weights * 5)
    assert loaded(half).card.dtype == "bfloat16"


@pytest.mark.parametrize("dtype", ["int4", "float"])
def test_a_dtype_that_is_not_there_is_refused(folder: Path, dtype: str) -> None:
    with pytest.raises(UserError, match=f"no dtype '{dtype}'.*auto, float32, bfloat16, float16"):
        loaded(folder, dtype=dtype)


# --- Refusals ------------------------------------------------------------------------------------------------


def test_weights_that_do_not_fit_are_refused_before_they_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(loader, "_model", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=r"weights of mine take .* GiB and cpu has .* GiB free; use --dtype bfloat16"):
        loaded(folder)


def test_free_memory_of_a_cpu_is_what_the_system_says() -> None:
    assert abs(loader.free_bytes(torch.device("cpu")) - psutil.virtual_memory().available) < 2**30


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps:7", "cpu:x"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(folder: Path, device: str) -> None:
    with pytest.raises(UserError, match=f"device.*{device}.*this machine has cpu"):
        loaded(folder, device=device)


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_weights_cut_short_are_refused(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"model\.safetensors .*remove it and fetch the model again"):
        loaded(folder)


def test_a_header_of_garbage_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 20) + b"\xff" * 40)
    with pytest.raises(UserError, match="is damaged"):
        loaded(folder)


def test_weights_that_lack_a_tensor_are_refused_and_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of its tensors, the first being model\.layers\.2\.mlp\.up_proj"):
        loaded(folder)


def test_weights_of_another_size_than_the_config_are_refused(folder: Path) -> None:
    refit(folder, intermediate_size=64)
    with pytest.raises(UserError, match="the weights of mine could not be read"):
        loaded(folder)


def test_a_folder_without_a_model_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config\.json; pass the folder of a transformers model"):
        loaded(tmp_path)
    (tmp_path / "model.gguf").touch()
    with pytest.raises(UserError, match=r"pass the file \S+/model\.gguf"):
        loaded(tmp_path)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="mine holds no weights"):
        loaded(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "perceptron"}'])
def test_a_configuration_that_says_nothing_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    said = r"config.json (is no JSON|holds a list)|the configuration of mine could not be read"
    with pytest.raises(UserError, match=said):
        loaded(folder)


def test_a_damaged_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(UserError, match="the tokenizer of mine could not be read"):
        loaded(folder)


def test_a_model_that_does_not_write_is_refused(folder: Path) -> None:
    refit(folder, architectures=["BertForMaskedLM"], model_type="bert")
    with pytest.raises(UserError, match="mine is a BertForMaskedLM, which does not write text"):
        loaded(folder)


def test_code_that_comes_with_a_model_runs_only_when_it_is_trusted(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig): model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM): config_class = OwnConfig\n"
    )
    refit(
        folder,
        model_type="own",
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    )
    with pytest.raises(UserError, match=r"Python code of its own.*--trust-remote-code"):
        loaded(folder)
    assert not ran.exists()
    assert type(loaded(folder, trust_remote_code=True).model).__name__ == "OwnModel"
    assert ran.exists()


# --- The default model ---------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_default_model_knows_the_capital_of_france() -> None:
    result = load(ModelSpec("smollm2", device="cpu"), lambda progress: None)
    assert (result.card.name, result.card.dtype) == ("SmolLM2-135M-Instruct", "float32")
    ids = result.tokenizer.encode("What is the capital of France?", None, chat=True)
    written = result.model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
    text = b"".join(result.tokenizer.token_bytes(id) for id in written)
    assert text == b"The capital of France is Paris.<|im_end|>"
    assert written[-1] in result.tokenizer.eos_ids
