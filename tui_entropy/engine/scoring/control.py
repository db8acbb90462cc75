"""Control vectors for many texts: one direction for all blocks or one for each, weighted by layer and by place.

What is added to the output of block k at a token is the block's direction, times the weight of the block, times the
weight of the token. Weights that are fewer or more than there are blocks or tokens are put on a line between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import open_regular
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.scorer import OffsetsOf
from tui_entropy.engine.sources.reading import reading, said_by
from tui_entropy.engine.steering import control_vector
from tui_entropy.engine.steering.control_vector import ControlVector, Direction

TORCH_FILES = (".pt", ".pth", ".bin")

Given = ControlVector | Direction
"""A direction for each block, (d_model,) for all, or (n_layers, d_model)."""


def read_vector(path: Path) -> Given:
    """The vector of a .pt, .gguf or .safetensors file. Raises UserError for what is none; a .pt file is read as
    tensors alone, and nothing of it is run."""
    if path.suffix.lower() not in TORCH_FILES:
        return control_vector.load(path)
    try:
        file = open_regular(path)
    except OSError as refused:
        raise UserError(f"the control vector {path} cannot be read ({refused.strerror}): name a file") from refused

    def refusal(error: BaseException) -> UserError:
        return UserError(f"{path} is no file of tensors ({said_by(error)}): save a tensor with torch.save")

    with reading(refusal), file:
        found = torch.load(file, map_location="cpu", weights_only=True)
    return as_vector(found, str(path))


def as_vector(found: Any, name: str) -> Given:
    """A tensor, an array, a list of numbers, or a mapping of blocks (from 1 on) to these, as a vector. Raises
    UserError for anything else."""
    if isinstance(found, ControlVector):
        return found
    if isinstance(found, Mapping):
        blocks = {_block(key, name): _numbers(value, name) for key, value in found.items()}
        if not blocks or any(value.ndim != 1 for value in blocks.values()):
            raise UserError(f"the control vector {name} has no direction for each block: give vectors of one length")
        return ControlVector(Path(name).stem, blocks)
    array = _numbers(found, name)
    if array.ndim not in (1, 2) or not array.size:
        raise UserError(
            f"the control vector {name} has the shape {array.shape}: wanted (d_model,), or (n_layers, d_model)"
        )
    return array


def _block(key: object, name: str) -> int:
    digits = str(key).rpartition(".")[2]
    if not digits.isdecimal():
        raise UserError(f"the control vector {name} has a part called {str(key)[:40]!r}: wanted numbers of blocks")
    return int(digits) + (1 if str(key).startswith("direction.") else 0)  # as in files of control vectors


def _numbers(value: Any, name: str) -> Direction:
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value, dtype=np.float32))
        array = tensor.detach().to("cpu", torch.float32).numpy()
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"the control vector {name} is a {type(value).__name__}: wanted numbers") from None
    if not np.isfinite(array).all():
        raise UserError(f"the control vector {name} holds numbers that are not finite: make it again")
    return array


def tiled(pattern: Sequence[float], width: int) -> Direction:
    """A pattern of numbers repeated to a width."""
    return np.resize(np.asarray(pattern, dtype=np.float32), width)


def directions(loaded: Loaded, given: Given) -> Mapping[int, Direction]:
    """Block (1-based) -> (d_model,). Raises UserError for a vector that does not fit the model."""
    n_layers, d_model = loaded.card.n_layers, loaded.card.d_model
    if isinstance(given, ControlVector):
        control_vector.check(given, n_layers, d_model)
        return given.directions
    if given.shape[-1] != d_model:
        raise UserError(
            f"the control vector is {given.shape[-1]} wide and {loaded.card.name} is {d_model}: give one that was "
            "made for this model"
        )
    if given.ndim == 1:
        return dict.fromkeys(range(1, n_layers + 1), given)
    if len(given) not in (n_layers, n_layers + 1):
        raise UserError(
            f"the control vector has {len(given)} rows and {loaded.card.name} {n_layers} blocks: give one for each"
        )
    return dict(enumerate(given[-n_layers:], 1))


def weighted(
    loaded: Loaded, given: Given, layer_weights: Sequence[float] | None, token_weights: Sequence[float] | None
) -> OffsetsOf:
    """What steers each passage. Raises UserError as `directions` does."""
    device = loaded.model.device
    of_layers = stretched(layer_weights, loaded.card.n_layers)
    pushes = {
        block: torch.from_numpy(np.ascontiguousarray(direction)).to(device) * of_layers[block - 1]
        for block, direction in directions(loaded, given).items()
    }
    if token_weights is None:
        return lambda passage: pushes

    @cache
    def of_length(n: int) -> Mapping[int, Tensor]:
        of_tokens = stretched(token_weights, n).to(device).unsqueeze(1)
        return {block: of_tokens * push for block, push in pushes.items()}

    def offsets(passage: Passage) -> Mapping[int, Tensor]:
        return of_length(len(passage))

    return offsets


def stretched(weights: Sequence[float] | None, n: int) -> Tensor:
    """(n,) of any number of weights, each in the middle of its part of a line; ones for none."""
    if weights is None:
        return torch.ones(n)
    known = torch.tensor([float(weight) for weight in weights])
    return known if len(known) == n else interpolate(known.view(1, 1, -1), size=n, mode="linear").view(-1)
