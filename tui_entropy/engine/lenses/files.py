"""Files of lenses: folders as `tuned-lens` writes them, files as `jacobian-lens` does. Ours are of the first kind.

A tuned lens is config.json and params.pt: for each layer from 0, the embedding, to the last block but one N.weight
and N.bias, stored as what is added to a vector. A Jacobian lens is one file with J, a map for each of source_layers,
which count blocks from 0: its layer N is our layer N + 1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import open_regular
from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.lenses.lens import AffineMap, Lens
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sources.reading import reading, said_by

CONFIG, PARAMS = "config.json", "params.pt"
KIND = "linear_tuned_lens"
JACOBIAN = ("J", "n_prompts", "source_layers", "d_model")
MAX_CONFIG_BYTES = 1 << 20
WIDTH = "numbers to a vector"
ROOM_BYTES = 1 << 22
"""Of a file, beside the numbers that its maps are made of."""
WANTED = "name a folder made by tuned-lens or `tui-entropy lens fit`, or a file made by jacobian-lens"


def load(path: Path, loaded: Loaded) -> Lens:
    """The lens in a folder or a file. Raises UserError for what is none, is damaged, or is of another model."""
    if path.is_dir():
        return _tuned(path, loaded)
    state = _state(path, loaded.architecture)
    if not isinstance(state, Mapping) or "J" not in state:
        raise UserError(f"{path} has no J and so is no Jacobian lens: {WANTED}")
    return _jacobian(path, state, loaded.architecture)


def save(lens: Lens, folder: Path, loaded: Loaded) -> None:
    """As a tuned lens, which must have a map with a bias for each layer but the last. Raises UserError."""
    config = {
        "base_model_name_or_path": loaded.card.name,
        "d_model": loaded.architecture.d_model,
        "num_hidden_layers": loaded.architecture.n_layers,
        "bias": True,
        "base_model_revision": loaded.card.revision,
        "unembed_hash": unembedding_hash(loaded.architecture),
        "lens_type": KIND,
    }
    params: dict[str, Tensor] = {}
    for layer, (weight, bias) in sorted(lens.maps.items()):
        assert bias is not None
        params |= {f"{layer}.weight": weight - torch.eye(len(weight)), f"{layer}.bias": bias}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(params, folder / PARAMS)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    except OSError as refused:
        raise UserError(f"the lens cannot be kept in {folder} ({refused.strerror}): name another folder") from refused


def unembedding_hash(architecture: Architecture) -> str:
    """The name that tuned-lens gives an output embedding: of its corners, to one digit."""
    matrix = architecture.unembedding.get_parameter("weight").detach().cpu().float().numpy()
    return hashlib.sha256(np.array_str(matrix, precision=1).encode()).hexdigest()


# --- Tuned lenses -------------------------------------------------------------------------------------------------


def _tuned(folder: Path, loaded: Loaded) -> Lens:
    architecture = loaded.architecture
    config = _config(folder / CONFIG)
    kind = config.get("lens_type", KIND)
    if kind != KIND:
        raise UserError(f"{folder} is a lens of the kind {str(kind)[:40]!r} and {KIND} was wanted: {WANTED}")
    _check(folder, config.get("d_model"), architecture.d_model, WIDTH)
    _check(folder, config.get("num_hidden_layers"), architecture.n_layers, "blocks")
    state = _state(folder / PARAMS, architecture)
    maps = {}
    for layer in range(architecture.n_layers):
        weight, bias = (_matrix(folder, state, f"{layer}.{part}", architecture) for part in ("weight", "bias"))
        if weight is None:
            raise UserError(
                f"{folder / PARAMS} has no {layer}.weight and one for each of {architecture.n_layers} blocks was "
                "wanted: fetch or fit the lens again"
            )
        maps[layer] = AffineMap(weight + torch.eye(len(weight)), bias)
    base, theirs = config.get("base_model_name_or_path"), config.get("unembed_hash")
    note = ""
    if not theirs:
        note = f"It does not say which output embedding it was made with, only that its model was {str(base)[:80]}."
    elif theirs != unembedding_hash(architecture):
        note = (
            f"It was made with another output embedding than this model has, that of {str(base)[:80]}: what it reads "
            "here may mean nothing."
        )
    return Lens(f"tuned lens {folder.name}", maps, note)


def _config(path: Path) -> Mapping[str, Any]:
    with reading(lambda error: UserError(f"{path} cannot be read ({said_by(error)}): {WANTED}")):
        with open_regular(path) as file:
            config = json.loads(file.read(MAX_CONFIG_BYTES))
        if not isinstance(config, dict):
            raise ValueError("it is no table of names and values")
        return config


# --- Jacobian lenses ----------------------------------------------------------------------------------------------


def _jacobian(path: Path, state: Mapping[Any, Any], architecture: Architecture) -> Lens:
    if missing := [name for name in JACOBIAN if name not in state]:
        raise UserError(f"{path} has no {missing[0]} and so is no whole Jacobian lens: {WANTED}")
    matrices, n_prompts = state["J"], state["n_prompts"]
    layers = state["source_layers"]
    _check(path, state["d_model"], architecture.d_model, WIDTH)
    n_blocks = architecture.n_layers
    if not isinstance(layers, list | tuple) or not layers or not all(isinstance(one, int) for one in layers):
        raise UserError(f"source_layers of {path} are no numbers of blocks: {WANTED}")
    if min(layers) < 0 or max(layers) >= n_blocks:
        raise UserError(
            f"{path} is a lens for blocks {min(layers)} to {max(layers)}, counted from 0, and this model has "
            f"{n_blocks} of them: take one that was made for this model"
        )
    if isinstance(matrices, Tensor) and matrices.dim() == 3 and len(matrices) == len(layers):
        matrices = dict(zip(layers, matrices, strict=True))
    if not isinstance(matrices, Mapping):
        raise UserError(f"J of {path} is no matrix for each of its {len(layers)} layers: {WANTED}")
    maps = {}
    for layer in layers:
        weight = _matrix(path, {f"J[{layer}]": matrices.get(layer)}, f"J[{layer}]", architecture)
        if weight is None:
            raise UserError(f"{path} names layer {layer} in source_layers and has no matrix for it: {WANTED}")
        if layer + 1 < architecture.n_layers:
            maps[layer + 1] = AffineMap(weight)
    few = f"from {n_prompts} prompts" if isinstance(n_prompts, int) else "from an unknown number of prompts"
    missing_layers = architecture.n_layers - 1 - len(maps)
    some = f" {missing_layers} blocks that it has no map for are read without one." if missing_layers else ""
    note = f"It was made {few}, and does not say of which model: only width and blocks were looked at.{some}"
    return Lens(f"Jacobian lens {path.name}", maps, note)


# --- Both ---------------------------------------------------------------------------------------------------------


def _state(path: Path, architecture: Architecture) -> Any:
    """What torch has saved in a file, as numbers alone and never as code."""
    bound = 8 * architecture.n_layers * architecture.d_model * (architecture.d_model + 2) + ROOM_BYTES
    refusal = lambda error: UserError(f"{path} cannot be read as a lens ({said_by(error)}): {WANTED}")  # noqa: E731
    with reading(refusal), open_regular(path) as file:
        size = path.stat().st_size
        if size > bound:
            raise UserError(
                f"{path} has {size / 1e6:.0f} MB and a lens of this model at most {bound / 1e6:.0f} MB: {WANTED}"
            )
        return torch.load(file, map_location="cpu", weights_only=True)


def _check(path: Path, found: object, wanted: int, what: str) -> None:
    """Raises UserError for a lens of a model of another shape."""
    if found != wanted:
        raise UserError(
            f"{path} is a lens for a model of {str(found)[:20]} {what} and this one has {wanted}: take one that was "
            "made for this model"
        )


def _matrix(path: Path, state: Any, name: str, architecture: Architecture) -> Tensor | None:
    """A weight (d_model, d_model), or bias (d_model,), in float32; None where there is none of this name."""
    value = state.get(name) if isinstance(state, Mapping) else None
    if value is None:
        return None
    d_model = architecture.d_model
    wanted = (d_model,) if name.endswith("bias") else (d_model, d_model)
    if not isinstance(value, Tensor) or tuple(value.shape) != wanted:
        found = " x ".join(map(str, value.shape)) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"{name} of {path} is {found} where {' x '.join(map(str, wanted))} was wanted: {WANTED}")
    found32 = value.detach().float()
    if not math.isfinite(float(found32.abs().sum())):
        raise UserError(f"{name} of {path} holds numbers that are not finite: it is damaged; fetch or fit it again")
    return found32
