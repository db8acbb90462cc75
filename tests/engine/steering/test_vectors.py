"""Control vectors: arithmetic, files of every convention, refusals, and what the shipped ones do to real text."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import small
import torch
from msgspec.structs import replace
from places import ROOT
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.steering.control_vector import (
    BUILT_IN,
    ControlVector,
    built_in,
    check,
    load,
    offsets,
    save_gguf,
    save_safetensors,
    setting,
)
from tui_entropy.engine.steering.hooks import steering
from tui_entropy.engine.steering.training import train
from tui_entropy.records.model import ModelCard, ModelSpec


def vector(name: str = "v", **blocks: list[float]) -> ControlVector:
    return ControlVector(name, {int(block[1:]): np.array(d, np.float32) for block, d in blocks.items()})


def plain(directions: Any) -> dict[int, list[float]]:
    return {block: direction.tolist() for block, direction in directions.items()}


def written_gguf(path: Path, layer_count: Callable[[gguf.GGUFWriter], None], **tensors: np.ndarray) -> Path:
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    layer_count(writer)
    for name, tensor in tensors.items():
        writer.add_tensor(name.replace("_", "."), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# --- Arithmetic ---------------------------------------------------------------------------------------------------


def test_vectors_add_subtract_and_scale_block_by_block() -> None:
    a, b = vector("a", b2=[1, 2], b3=[3, 4]), vector("b", b3=[10, 20], b4=[5, 6])
    assert plain((a + b).directions) == {2: [1, 2], 3: [13, 24], 4: [5, 6]}
    assert plain((a - b).directions) == {2: [1, 2], 3: [-7, -16], 4: [-5, -6]}
    assert plain((2 * a).directions) == plain((a * 2).directions) == {2: [2, 4], 3: [6, 8]}
    assert plain((-a).directions) == {2: [-1, -2], 3: [-3, -4]}
    assert plain(a.directions) == {2: [1, 2], 3: [3, 4]}


def test_pushes_are_the_sum_of_what_is_on_within_its_blocks() -> None:
    known = {"a": vector("a", b2=[1, 1], b3=[1, 1], b4=[1, 1]), "b": vector("b", b3=[0, 5])}
    a, b = (replace(setting(v, "file"), on=True) for v in known.values())
    assert (a.blocks, a.strength, a.source) == ((2, 3, 4), 1.0, "file")
    assert plain(offsets([a, b], known)) == {2: [1, 1], 3: [1, 6], 4: [1, 1]}
    assert plain(offsets([replace(a, strength=-0.5, first=3, last=3), b], known)) == {3: [-0.5, 4.5]}
    assert plain(offsets([replace(a, first=4), replace(b, on=False)], known)) == {4: [1, 1]}
    assert offsets([replace(a, strength=0.0), replace(b, first=4, last=9)], known) == {}
    assert plain(known["a"].directions)[3] == [1, 1]


# --- Files --------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    saved = vector(b2=[1.5, -2], b9=[0.25, 8])
    save_safetensors(saved, tmp_path / "one.safetensors")
    save_gguf(saved, tmp_path / "two.gguf", "llama")
    for path in tmp_path.iterdir():
        again = load(path)
        assert again.name == path.stem
        assert plain(again.directions) == plain(saved.directions)


@pytest.mark.parametrize("width", ["uint32", "int32"])
def test_direction_n_acts_on_the_output_of_block_n_counted_from_0(tmp_path: Path, width: str) -> None:
    count = {
        "uint32": lambda writer: writer.add_uint32("controlvector.layer_count", 2),  # repeng
        "int32": lambda writer: writer.add_int32("controlvector.layer_count", 2),  # llama.cpp
    }[width]
    one, two = np.ones(3, np.float32), np.full(3, 2, np.float32)
    path = written_gguf(tmp_path / "happy.gguf", count, direction_1=one, direction_12=two)
    assert plain(load(path).directions) == {2: [1, 1, 1], 13: [2, 2, 2]}


def test_a_saved_gguf_is_what_llama_cpp_reads(tmp_path: Path) -> None:
    save_gguf(vector(b2=[1, 2]), tmp_path / "v.gguf", "llama")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    assert [(t.name, t.tensor_type.name, t.data.tolist()) for t in reader.tensors] == [("direction.1", "F32", [1, 2])]
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"


def test_several_tensors_for_a_block_are_added_up(tmp_path: Path) -> None:
    tensors = {"direction.4": torch.tensor([1.0, 2.0]), "direction.4.more": torch.tensor([0.5, 0.5]).bfloat16()}
    save_file(tensors, tmp_path / "v.safetensors")
    assert plain(load(tmp_path / "v.safetensors").directions) == {5: [1.5, 2.5]}


def test_a_gguf_cannot_hold_a_push_on_block_1(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"acts on block 1, .* save it as safetensors"):
        save_gguf(vector(b1=[1, 2]), tmp_path / "v.gguf", "llama")
    assert not list(tmp_path.iterdir())


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    nothing = lambda writer: None  # noqa: E731
    whole = written_gguf(folder / "whole.gguf", nothing, direction_1=np.ones(64, np.float32))
    ones = torch.ones(2)
    files = {
        "text": (b"not a vector at all", "neither a GGUF nor a whole safetensors"),
        "empty": (b"", "neither a GGUF nor a whole safetensors"),
        "cut": (whole.read_bytes()[:-100], "damaged"),
        "huge": (struct.pack("<Q", 2**62) + b"{}", "neither a GGUF nor a whole safetensors"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    tensors = {
        "model": ({"model.norm.weight": ones}, "holds no control vector"),
        "wide": ({"direction.1": ones, "direction.2": torch.ones(3)}, "have shapes .* where one length was wanted"),
        "flat": ({"direction.1": torch.ones(2, 2)}, "have shapes"),
        "nan": ({"direction.1": ones / 0}, "not finite"),
    }
    for name, (content, _) in tensors.items():
        save_file(content, folder / name)
    missing = {"missing": (folder / "missing", "No such file"), "folder": (folder, "cannot be read")}
    return {name: (folder / name, words) for name, (_, words) in {**files, **tensors}.items()} | missing


@pytest.mark.parametrize(
    "name", ["text", "empty", "cut", "huge", "model", "wide", "flat", "nan", "missing", "folder"]
)
def test_a_file_that_is_no_vector_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    path, words = broken_files(tmp_path)[name]
    with pytest.raises(UserError, match=words) as refusal:
        load(path)
    assert str(path) in str(refusal.value)


def test_a_vector_for_another_model_is_refused_in_a_sentence() -> None:
    fits = vector("calm", b2=[1, 2], b4=[3, 4])
    check(fits, n_layers=4, d_model=2)
    with pytest.raises(UserError, match="'calm' is 2 wide but the model is 576: it was made for another model"):
        check(fits, n_layers=4, d_model=576)
    with pytest.raises(UserError, match="'calm' acts on block 4 but the model has 3"):
        check(fits, n_layers=3, d_model=2)


# --- The shipped vectors, on the real model -----------------------------------------------------------------------

HELD_OUT = {
    "warm": [
        ("The children were cheerful and shared their toys.", "The children were gloomy and broke their toys."),
        ("I am so glad you came, you made my day.", "I am so sorry you came, you spoiled my day."),
        ("It was a lovely walk through the sunny park.", "It was a dreary walk through the filthy park."),
        ("My neighbour is friendly and baked us a sweet pie.", "My neighbour is hostile and sent us a rude note."),
        ("The teacher praised her and everyone cheered.", "The teacher scolded her and everyone jeered."),
        ("We are blessed with good health and true friends.", "We are cursed with poor health and false friends."),
    ],
    "formal": [
        ("We would appreciate your prompt attention to this issue.", "could you guys hurry up with this pls"),
        ("The minister declined to comment on the allegations.", "the guy wouldn't say a word about that stuff"),
        ("Enclosed please find a copy of the agreement.", "here's that paper thing you wanted, enjoy"),
        ("The study examines the effects of taxation on trade.", "so this one's about taxes messing up trade"),
        ("It is imperative that the instructions be followed.", "you really gotta do it like they told you, ok"),
        ("The applicant possesses extensive experience.", "she's done loads of this kinda thing, trust me"),
    ],
    "pirate": [
        ("Arr, the rum be gone and the crew be thirsty!", "Well, the tea is gone and the staff is thirsty."),
        ("Ahoy, ye old sea dog, where be me map?", "Hello, my old friend, where is my bag?"),
        ("We be raidin' the harbour at midnight, mateys.", "We are visiting the library at midday, everyone."),
        ("Aye, the cap'n will feed ye to the sharks!", "Yes, the manager will send you to the doctor."),
        ("Heave ho, lads, the treasure be aboard!", "Come on, class, the textbook is online."),
        ("The black flag strikes fear in every sailor's heart.", "The new form brings order to every clerk's desk."),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def smollm2() -> Loaded:
    if not (paths.models() / "smollm2").is_dir():
        pytest.skip("the default model is not here: tui-entropy fetch smollm2")
    from tui_entropy.engine.loading.loader import load as load_model

    return load_model(ModelSpec("smollm2", dtype="float32", device="cpu"), lambda progress: None)


@torch.inference_mode()
def log_probabilities(loaded: Loaded, texts: Sequence[str]) -> torch.Tensor:
    """(texts,) nats, of each as what the assistant says."""
    opening = loaded.tokenizer.encode("<|im_start|>assistant\n", None, chat=False)
    answers = [torch.tensor(loaded.tokenizer.encode(text, None, chat=False)) for text in texts]
    rows = pad_sequence([torch.cat([torch.tensor(opening), answer]) for answer in answers], batch_first=True)
    logp = loaded.model(rows, use_cache=False).logits[:, len(opening) - 1 :].log_softmax(-1)
    return torch.stack([row[range(len(ids)), ids].sum() for row, ids in zip(logp, answers, strict=True)])


def leaning(loaded: Loaded, name: str, strength: float) -> float:
    """Log-odds of the held-out sentences in the vector's way against those in the opposite way."""
    known = {v.name: v for v in built_in(loaded.card)}
    along, opposite = zip(*HELD_OUT[name], strict=True)
    with steering(loaded.architecture) as steer:
        steer.set(offsets([replace(setting(known[name], "built in"), on=True, strength=strength)], known))
        logp = log_probabilities(loaded, along + opposite)
    return float(logp[: len(along)].sum() - logp[len(along) :].sum())


@pytest.mark.real
@pytest.mark.parametrize("name", HELD_OUT)
def test_a_shipped_vector_moves_text_in_its_direction_and_back(smollm2: Loaded, name: str) -> None:
    against, without, along = (leaning(smollm2, name, strength) for strength in (-1, 0, 1))
    assert along > without + len(HELD_OUT[name])  # a nat a sentence is far beyond rounding
    assert against < without - len(HELD_OUT[name])


def card(**changes: Any) -> ModelCard:
    smollm2 = ModelCard(
        name="SmolLM2-135M-Instruct", revision=None, source="", note="", device="cpu", dtype="float32", n_layers=30,
        n_heads=9, n_kv_heads=3, d_model=576, vocab=49152, context=8192, layer_kinds=("full",) * 30,
        windows=(None,) * 30, attention=(True,) * 30, has_chat_template=True, versions={},
    )  # fmt: skip
    return replace(smollm2, **changes)


def test_shipped_vectors_are_offered_to_the_model_they_were_made_for_only() -> None:
    offered = built_in(card())
    assert {v.name for v in offered} == set(HELD_OUT) == {path.stem for path in BUILT_IN.iterdir()}
    for v in offered:
        check(v, n_layers=30, d_model=576)
    assert built_in(card(n_layers=12)) == built_in(card(d_model=640)) == built_in(card(vocab=50000)) == []


def test_held_out_means_held_out() -> None:
    pairs = (ROOT / "scripts" / "contrast_pairs.toml").read_text()
    assert not [text for held_out in HELD_OUT.values() for pair in held_out for text in pair if text in pairs]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_training_is_the_mean_difference_over_answer_tokens_at_the_length_asked_for(family: str) -> None:
    loaded = small.loaded(family)
    pairs = [("!!", '"#$'), ("&&'", "()")]
    trained = train(loaded, "mood", pairs, blocks=(2, 4), push=0.1)
    assert not any(block._forward_hooks for block in loaded.architecture.blocks)

    opening = loaded.tokenizer.encode("Say something.", None, chat=False)
    means: list[dict[int, torch.Tensor]] = []
    for text in (text for pair in pairs for text in pair):
        ids = torch.tensor([opening + loaded.tokenizer.encode(text, None, chat=False)])
        normed: list[torch.Tensor] = []  # what goes into the final norm is the output of the last block
        hook = loaded.architecture.final_norm.register_forward_pre_hook(
            lambda module, args, to=normed: to.append(args[0])
        )
        with torch.inference_mode():
            states = loaded.model(ids, output_hidden_states=True).hidden_states
        hook.remove()
        means.append({2: states[2][0, len(opening) :].mean(0), 4: normed[0][0, len(opening) :].mean(0)})
    for block in (2, 4):
        a, b, c, d = (mean[block] for mean in means)
        length = 0.1 * torch.stack([a, b, c, d]).norm(dim=-1).mean()
        difference = (a - b + c - d) / 2
        expected = difference / difference.norm() * length
        torch.testing.assert_close(torch.from_numpy(trained.directions[block]), expected, rtol=1e-4, atol=1e-5)
    assert sorted(trained.directions) == [2, 4]
