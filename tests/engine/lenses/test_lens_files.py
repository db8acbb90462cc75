"""Lenses in files: those of others are read, those of other models refused in a sentence, ours are of their kind."""

import json

import pytest
import small
import torch

from tui_entropy.core.errors import UserError
from tui_entropy.engine.lenses.files import load, save, unembedding_hash
from tui_entropy.engine.lenses.lens import LOGIT_LENS, AffineMap, Lens

LOADED = small.loaded()
D, N = 32, 4
RANDOM = torch.Generator().manual_seed(5)
MATRICES = [torch.randn(D, D, generator=RANDOM) for _ in range(N)]
BIASES = [torch.randn(D, generator=RANDOM) for _ in range(N)]
VECTORS = torch.randn(3, D, generator=RANDOM)


def tuned(folder, config=None, params=None):
    """As the package tuned-lens saves one."""
    folder.mkdir(exist_ok=True)
    known = {
        "base_model_name_or_path": "tiny", "d_model": D, "num_hidden_layers": N, "bias": True,
        "base_model_revision": None, "unembed_hash": unembedding_hash(LOADED.architecture),
        "lens_type": "linear_tuned_lens",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(known | (config or {})))
    state = {f"{n}.weight": MATRICES[n] for n in range(N)} | {f"{n}.bias": BIASES[n] for n in range(N)}
    torch.save(state if params is None else params, folder / "params.pt")
    return folder


def jacobian(path, **changes):
    state = {"J": {n: MATRICES[n].half() for n in range(3)}, "n_prompts": 7, "source_layers": [0, 1, 2], "d_model": D}
    torch.save({name: value for name, value in (state | changes).items() if value is not ...}, path)
    return path


def test_a_tuned_lens_adds_what_it_makes_of_a_vector(tmp_path):
    lens = load(tuned(tmp_path / "mine"), LOADED)
    assert lens.name == "tuned lens mine" and not lens.note and sorted(lens.maps) == [0, 1, 2, 3]
    for layer in range(N):
        wanted = VECTORS + VECTORS @ MATRICES[layer].T + BIASES[layer]
        torch.testing.assert_close(lens(layer, VECTORS), wanted, rtol=1e-5, atol=1e-4)
    assert torch.equal(lens(N, VECTORS), VECTORS)


def test_a_jacobian_lens_counts_blocks_from_0_and_has_no_bias(tmp_path):
    lens = load(jacobian(tmp_path / "lens.pt"), LOADED)
    assert sorted(lens.maps) == [1, 2, 3] and "from 7 prompts" in lens.note
    for layer in (1, 2, 3):
        wanted = VECTORS @ MATRICES[layer - 1].half().float().T
        torch.testing.assert_close(lens(layer, VECTORS), wanted, rtol=1e-5, atol=1e-4)
    assert torch.equal(lens(0, VECTORS), VECTORS)


def test_the_map_of_the_last_block_is_left_out_and_missing_ones_are_told(tmp_path):
    every = jacobian(tmp_path / "a.pt", J=dict(enumerate(MATRICES)), source_layers=[0, 3])
    lens = load(every, LOADED)
    assert sorted(lens.maps) == [1] and "2 blocks that it has no map for" in lens.note


def test_the_logit_lens_changes_nothing():
    assert all(LOGIT_LENS(layer, VECTORS) is VECTORS for layer in range(N + 1))


def test_another_unembedding_is_told_in_a_note(tmp_path):
    assert "another output embedding" in load(tuned(tmp_path / "a", {"unembed_hash": "0" * 64}), LOADED).note
    assert "does not say" in load(tuned(tmp_path / "b", {"unembed_hash": None}), LOADED).note


def test_what_is_saved_is_read_again_and_is_stored_as_what_is_added(tmp_path):
    lens = Lens("x", {n: AffineMap(MATRICES[n], BIASES[n]) for n in range(N)})
    save(lens, tmp_path / "kept", LOADED)
    again = load(tmp_path / "kept", LOADED)
    assert not again.note
    for layer in range(N):
        torch.testing.assert_close(again(layer, VECTORS), lens(layer, VECTORS), rtol=1e-4, atol=1e-4)
    state = torch.load(tmp_path / "kept" / "params.pt", weights_only=True)
    linear = torch.nn.ModuleList(torch.nn.Linear(D, D) for _ in range(N))
    linear.load_state_dict(state)  # as the package does
    torch.testing.assert_close(VECTORS + linear[2](VECTORS), lens(2, VECTORS), rtol=1e-4, atol=1e-4)


PARAMS = {f"{n}.weight": MATRICES[n] for n in range(N)}
REFUSED = {
    "no folder": (lambda path: path / "none", "cannot be read as a lens"),
    "an empty folder": (lambda path: path, "config.json cannot be read"),
    "width": (lambda path: tuned(path / "a", {"d_model": 64}), "of 64 numbers to a vector and this one has 32"),
    "layers": (lambda path: tuned(path / "a", {"num_hidden_layers": 5}), "of 5 blocks and this one has 4"),
    "kind": (lambda path: tuned(path / "a", {"lens_type": "mlp"}), "of the kind 'mlp'"),
    "a layer too few": (
        lambda path: tuned(path / "a", params={k: v for k, v in PARAMS.items() if k != "3.weight"}), "no 3.weight",
    ),
    "a list": (lambda path: tuned(path / "a", params=[1, 2]), "no 0.weight"),
    "shape": (
        lambda path: tuned(path / "a", params=PARAMS | {"1.weight": torch.zeros(D, 3)}), "1.weight of .* is 32 x 3",
    ),
    "no tensor": (lambda path: tuned(path / "a", params=PARAMS | {"1.bias": "x"}), "1.bias of .* is str where 32"),
    "not finite": (
        lambda path: tuned(path / "a", params=PARAMS | {"2.weight": torch.full((D, D), torch.nan)}), "not finite",
    ),
    "no lens": (lambda path: jacobian(path / "a.pt", J=...), "has no J"),
    "no prompts": (lambda path: jacobian(path / "a.pt", n_prompts=...), "has no n_prompts"),
    "width of J": (lambda path: jacobian(path / "a.pt", d_model=31), "of 31 numbers to a vector"),
    "layers beyond": (lambda path: jacobian(path / "a.pt", source_layers=[0, 4]), "blocks 0 to 4, counted from 0"),
    "odd layers": (lambda path: jacobian(path / "a.pt", source_layers="all"), "no numbers of blocks"),
    "a layer without a matrix": (lambda path: jacobian(path / "a.pt", J={0: MATRICES[0]}), "names layer 1"),
    "no matrices": (lambda path: jacobian(path / "a.pt", J=3), "no matrix for each"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_lens_of_this_model_is_one_sentence(make, said, tmp_path):
    with pytest.raises(UserError, match=said) as refused:
        load(make(tmp_path), LOADED)
    assert "\n" not in str(refused.value)


class Planted:
    def __reduce__(self):
        return print, ("code of a file was run",)


def test_no_code_of_a_file_is_run_and_none_too_large_is_read(tmp_path, capsys):
    folder = tuned(tmp_path / "a")
    torch.save({"0.weight": Planted()}, folder / "params.pt")
    with pytest.raises(UserError, match="cannot be read as a lens"):
        load(folder, LOADED)
    assert not capsys.readouterr().out
    with (folder / "params.pt").open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(UserError, match="MB and a lens of this model at most"):
        load(folder, LOADED)
