"""A GGUF file and the folder made of it are the same model."""

from pathlib import Path

import gguf
import gguf_files
import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen3Config

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources.catalogue import Provenance
from tui_entropy.engine.sources.gguf_convert import convert
from tui_entropy.records.events import Progress

Kind = gguf.GGMLQuantizationType


def folder_of(path: Path) -> Path:
    folder = path.with_suffix("")
    folder.mkdir()
    convert(path, folder, "Tiny", "made here", lambda progress: None)
    return folder


def model_of(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


@torch.inference_mode()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(tiny.prompt(40)).logits


@pytest.mark.parametrize("tied", [True, False])
def test_an_unquantised_file_gives_the_very_same_logits(tmp_path: Path, tied: bool) -> None:
    original = tiny.llama(tie_word_embeddings=tied)
    converted = model_of(folder_of(gguf_files.write(tmp_path / "tiny.gguf", original)))
    assert torch.equal(logits(converted), logits(original))


@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.Q8_0])
def test_quantised_weights_are_bit_for_bit_those_of_transformers(tmp_path: Path, kind: Kind) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", tiny.llama(), kind)
    ours = model_of(folder_of(path)).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name).state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name


@pytest.mark.parametrize(("kind", "dtype"), [(Kind.BF16, torch.bfloat16), (Kind.F16, torch.float16)])
def test_a_file_of_16_bit_floats_stays_one(tmp_path: Path, kind: Kind, dtype: torch.dtype) -> None:
    original = tiny.llama()
    converted = model_of(folder_of(gguf_files.write(tmp_path / "tiny.gguf", original, kind)))
    assert converted.dtype == dtype
    assert torch.equal(converted.model.embed_tokens.weight, original.model.embed_tokens.weight.to(dtype))


def test_large_quantised_weights_are_kept_as_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_entropy.engine.sources.gguf_convert.LARGEST_FLOAT32", 1000)
    converted = model_of(folder_of(gguf_files.write(tmp_path / "tiny.gguf", tiny.llama(), Kind.Q8_0)))
    assert {weight.dtype for weight in converted.parameters()} == {torch.bfloat16}


def test_the_rotary_scaling_of_llama_3_is_read_off_its_factors(tmp_path: Path) -> None:
    scaling = dict(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, **scaling}
    original = tiny.llama(rope_parameters=rope, max_position_embeddings=16384)
    plain = 500000.0 ** -(np.arange(0, 8, 2) / 8)
    factors = plain / original.model.rotary_emb.inv_freq.numpy()
    assert factors.max() > 2, "nothing is scaled"
    path = gguf_files.write(tmp_path / "tiny.gguf", original, rope_factors=factors)
    assert torch.allclose(logits(model_of(folder_of(path))), logits(original), atol=1e-5)


def test_a_rotary_scaling_that_is_not_known_is_refused_rather_than_left_out(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", tiny.llama(), llama__rope__scaling__type="yarn")
    with pytest.raises(UserError, match="scales its rotary positions"):
        folder_of(path)
    other = gguf_files.write(tmp_path / "other.gguf", tiny.llama(), rope_factors=np.array([1.0, 2, 3, 4]))
    with pytest.raises(UserError, match="scales its rotary positions"):
        folder_of(other)


def test_the_tokenizer_keeps_digits_apart_and_special_tokens_whole(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", tiny.llama())
    ours = AutoTokenizer.from_pretrained(folder_of(path))
    ids = ours("11aa<|im_end|>")["input_ids"]
    assert ours.convert_ids_to_tokens(ids) == ["1", "1", "aa", "<|im_end|>"]
    assert (ours.bos_token, ours.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert ours.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False).endswith("a<|im_end|>\n")


def test_other_vocabularies_are_split_as_transformers_knows_them(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", tiny.llama(), pre="llama-bpe")
    ours = AutoTokenizer.from_pretrained(folder_of(path))
    assert ours.convert_ids_to_tokens(ours("11", add_special_tokens=False)["input_ids"]) == ["11"]


def test_progress_counts_tensors_up_to_the_last(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", tiny.llama())
    reports: list[Progress] = []
    (tmp_path / "folder").mkdir()
    convert(path, tmp_path / "folder", "Tiny", "made here", reports.append)
    counts = [progress.done for progress in reports if progress.unit == "tensors"]
    assert counts == list(range(len(counts)))
    assert counts[-1] == reports[-1].total


@pytest.mark.parametrize(
    ("kind", "file_type", "note"),
    [(Kind.Q8_0, 7, "Q8_0, dequantised"), (Kind.F16, 1, "F16"), (Kind.Q4_1, 15, "Q4_K_M, dequantised")],
)
def test_the_note_names_the_quantisation_of_the_whole_file(
    tmp_path: Path, kind: Kind, file_type: int, note: str
) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", tiny.llama(), kind, general__file_type=file_type)
    assert Provenance.read(folder_of(path)) == Provenance("Tiny", "made here", note)


def test_one_part_of_a_split_file_is_refused(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny-00001-of-00003.gguf", tiny.llama(), split__count=3)
    with pytest.raises(UserError, match="one part of a split file"):
        folder_of(path)


def test_an_architecture_that_nobody_converts_is_refused_in_a_sentence(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "perceptron")
    writer.add_tensor("weight", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match=r"odd\.gguf is of the architecture perceptron.*use a safetensors copy"):
        folder_of(tmp_path / "odd.gguf")


def test_another_architecture_goes_through_transformers(tmp_path: Path) -> None:
    original = tiny.built(Qwen3Config(**tiny.SHAPE | {"head_dim": 128}))  # transformers supposes 128
    path = gguf_files.write(tmp_path / "tiny.gguf", original, pre="qwen2", architecture="qwen3")
    converted = model_of(folder_of(path))
    assert type(converted).__name__ == "Qwen3ForCausalLM"
    assert torch.allclose(logits(converted), logits(original), atol=1e-5)
