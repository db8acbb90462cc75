"""Control vectors in files, as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import tiny
from safetensors.numpy import save_file

N_BLOCKS, WIDTH = 30, 576
Directions = dict[int, npt.NDArray[np.float32]]
"""Block (1-based) -> what is added to its output at strength 1."""


def directions(seed: int, blocks: range) -> Directions:
    """Long enough to change what is written, short enough to leave it language."""
    rng = np.random.default_rng(seed)
    return {block: rng.normal(0, 0.12, WIDTH).astype(np.float32) for block in blocks}


def as_repeng(path: Path, vector: Mapping[int, npt.NDArray[np.float32]]) -> None:
    """As repeng's export_gguf writes it: direction.N of the block whose index is N, counted from 0."""
    _gguf(path, {f"direction.{block - 1}": row for block, row in vector.items()}, {"layer_count": len(vector)})


def as_llama_cpp(path: Path, vector: Mapping[int, npt.NDArray[np.float32]]) -> None:
    """As llama-cvector-generator writes it: a direction for every block but the first, those that do nothing too."""
    rows = {f"direction.{n}": vector.get(n + 1, np.zeros(WIDTH, np.float32)) for n in range(1, N_BLOCKS)}
    _gguf(path, rows, {"layer_count": len(rows)})


def _gguf(path: Path, tensors: Mapping[str, npt.NDArray[np.float32]], counts: Mapping[str, int]) -> None:
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    for name, count in counts.items():
        writer.add_uint32(f"controlvector.{name}", count)
    for name, row in tensors.items():
        writer.add_tensor(name, row)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_safetensors(path: Path, vector: Mapping[int, npt.NDArray[np.float32]]) -> None:
    save_file({f"direction.{block - 1}": row for block, row in vector.items()}, path)


def flat(path: Path) -> None:
    """For the small models: next to nothing on every block."""
    as_safetensors(path, {k: np.full(tiny.SHAPE["hidden_size"], 1e-4, np.float32) for k in range(1, 5)})


def write_all(folder: Path) -> dict[str, Directions]:
    """The files of this test, and what each of them does."""
    made = {
        "happy": directions(1, range(8, 26)),
        "terse": directions(2, range(1, 31)),
        "dry": directions(3, range(9, 20)),
    }
    as_repeng(folder / "happy.gguf", made["happy"])
    as_safetensors(folder / "terse.safetensors", made["terse"])
    as_llama_cpp(folder / "dry.gguf", made["dry"])
    (folder / "other").mkdir(exist_ok=True)
    made["other"] = directions(4, range(12, 18))
    as_safetensors(folder / "other" / "happy.safetensors", made["other"])
    return made
