"""Control vectors: a direction per block, read from files, combined, and made from pairs of contrasting answers.

In files a direction is called `direction.N`, N counting blocks from 0: it is added to the output of that block, which
is our block N + 1. So repeng writes it and so llama.cpp reads it. (Vectors made by llama.cpp's own generator were
measured one block earlier than they act.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import open_regular
from tui_entropy.engine.sources.gguf import MAGIC, GgufFile
from tui_entropy.engine.sources.reading import reading, said_by
from tui_entropy.records.model import ModelCard
from tui_entropy.records.settings import Vector

BUILT_IN = Path(__file__).parents[2] / "vectors"
FORMAT = "tui-entropy control vector 1"
DIRECTION = re.compile(r"direction\.(\d+)")

Direction = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ControlVector:
    """The directions to add to the residual stream, at strength 1. Vectors add, subtract and scale block by block."""

    name: str
    directions: Mapping[int, Direction]
    """Block (1-based) -> (d_model,)."""

    @property
    def hash(self) -> str:
        """Sixteen digits that tell it from one with other directions, whatever it is called."""
        digest = hashlib.sha256()
        for block, direction in sorted(self.directions.items()):
            digest.update(block.to_bytes(4, "little") + direction.astype("<f4").tobytes())
        return digest.hexdigest()[:16]

    def __add__(self, other: ControlVector) -> ControlVector:
        return ControlVector(f"{self.name}+{other.name}", _sum([self.directions, other.directions]))

    def __sub__(self, other: ControlVector) -> ControlVector:
        return ControlVector(f"{self.name}-{other.name}", _sum([self.directions, (-other).directions]))

    def __mul__(self, factor: float) -> ControlVector:
        return ControlVector(self.name, {k: np.float32(factor) * v for k, v in self.directions.items()})

    __rmul__ = __mul__

    def __neg__(self) -> ControlVector:
        return self * -1


def setting(vector: ControlVector, source: str) -> Vector:
    """A vector as it is before anyone touched it: off, at strength 1, on all its blocks."""
    return Vector(vector.name, source, tuple(sorted(vector.directions)), hash=vector.hash)


def offsets(settings: Iterable[Vector], vectors: Mapping[str, ControlVector]) -> dict[int, Tensor]:
    """The sum of all vectors that are on: block (1-based) -> (d_model,) float32, on the CPU."""
    parts = []
    for wanted in settings:
        if wanted.on and wanted.strength:
            scaled = vectors[wanted.name] * wanted.strength
            first, last = wanted.first or 0, wanted.last or max(scaled.directions, default=0)
            parts.append({k: v for k, v in scaled.directions.items() if first <= k <= last})
    return {block: torch.from_numpy(push) for block, push in _sum(parts).items()}


def free_name(stem: str, taken: Container[str]) -> str:
    """A name for a vector that no other has: itself, or with a number behind it."""
    return next(name for name in chain([stem], (f"{stem} {n}" for n in count(2))) if name not in taken)


def check(vector: ControlVector, n_layers: int, d_model: int) -> None:
    """Raise UserError unless the vector fits a model."""
    for block, direction in vector.directions.items():
        if len(direction) != d_model:
            found, wanted = f"is {len(direction)} wide", f"is {d_model}"
        elif block > n_layers:
            found, wanted = f"acts on block {block}", f"has {n_layers}"
        else:
            continue
        raise UserError(
            f"control vector {vector.name!r} {found} but the model {wanted}: it was made for another model; "
            "choose a vector that was made for this one"
        )


def built_in(card: ModelCard) -> list[ControlVector]:
    """The shipped vectors that were made for this model. They are told by its shape, which its name may not show."""
    shape = _shape(card)
    return [load(path) for path in sorted(BUILT_IN.glob("*.safetensors")) if _made_for(path).items() >= shape.items()]


# --- Files ---------------------------------------------------------------------------------------------------------


def load(path: Path) -> ControlVector:
    """Read a GGUF or safetensors file; the vector is named after it. Several tensors for a block are added up.

    Raises UserError for a file that cannot be read, is damaged, or holds something else.
    """
    try:
        with open_regular(path) as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
    except OSError as unreadable:
        raise UserError(
            f"the control vector {path} cannot be read ({unreadable.strerror}): name a GGUF or safetensors file"
        ) from unreadable
    with reading(lambda error: _garbled(path, error)):
        return _read(path, _gguf_tensors(path) if is_gguf else _safetensors(path))


def _garbled(path: Path, error: BaseException) -> UserError:
    return UserError(
        f"{path} is neither a GGUF nor a whole safetensors file ({said_by(error)}): name a control vector"
    )


def _read(path: Path, tensors: Mapping[str, Direction]) -> ControlVector:
    if not tensors:
        raise UserError(
            f"{path} holds no control vector, which has tensors named direction.1, direction.2 ...: name a file made "
            "by repeng, llama.cpp or this program"
        )
    shapes = sorted({tensor.shape for tensor in tensors.values()})
    if len(shapes) > 1 or len(shapes[0]) != 1:
        raise UserError(f"the directions of {path} have shapes {shapes} where one length was wanted: make it again")
    directions = _sum([{_block(name): tensor} for name, tensor in tensors.items()])
    if not all(np.isfinite(direction).all() for direction in directions.values()):
        raise UserError(f"the control vector {path} holds numbers that are not finite: it is damaged; fetch it again")
    return ControlVector(path.stem, directions)


def save_gguf(vector: ControlVector, path: Path, model_hint: str) -> None:
    """For llama.cpp and repeng, which cannot steer block 1: raises UserError then.

    model_hint: the model_type of the model's config.
    """
    if 1 in vector.directions:
        raise UserError(
            f"control vector {vector.name!r} acts on block 1, which no GGUF vector can: save it as safetensors"
        )
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", model_hint)
    writer.add_uint32("controlvector.layer_count", len(vector.directions))
    for block, direction in sorted(vector.directions.items()):
        writer.add_tensor(f"direction.{block - 1}", direction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_safetensors(vector: ControlVector, path: Path, card: ModelCard | None = None) -> None:
    """card: the model that it was made for, which is written beside it."""
    tensors = {f"direction.{block - 1}": torch.from_numpy(v) for block, v in sorted(vector.directions.items())}
    metadata = {"format": FORMAT} | (_shape(card) | {"model": card.name} if card else {})
    save_file(tensors, path, metadata)


def _gguf_tensors(path: Path) -> dict[str, Direction]:
    file = GgufFile(path)
    return {name: file.read(name) for name in file.tensors if DIRECTION.match(name)}


def _safetensors(path: Path) -> dict[str, Direction]:
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if DIRECTION.match(name)]  # noqa: SIM118
        return {name: file.get_tensor(name).float().numpy() for name in names}


def _block(tensor_name: str) -> int:
    match = DIRECTION.match(tensor_name)
    assert match
    return int(match[1]) + 1


def _made_for(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def _shape(card: ModelCard) -> dict[str, str]:
    return {"d_model": str(card.d_model), "n_layers": str(card.n_layers), "vocab": str(card.vocab)}


def _sum(parts: Sequence[Mapping[int, Direction]]) -> dict[int, Direction]:
    """Block by block; a block that only some have is theirs."""
    total: dict[int, Direction] = {}
    for part in parts:
        for block, direction in part.items():
            total[block] = total[block] + direction if block in total else np.array(direction, dtype=np.float32)
    return total
