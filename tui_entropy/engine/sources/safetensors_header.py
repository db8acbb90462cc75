"""The size of a folder's weights, from the headers of the files alone."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import open_regular
from tui_entropy.engine.sources.reading import said_by

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}
MAX_HEADER_BYTES = 100 * 2**20
"""Bytes; what safetensors itself allows."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    n_weights: int
    n_bytes: int
    """On disk."""
    dtype: torch.dtype
    """Of most weights; float32 where that is none that torch computes with."""
    n_tensors: int = 0
    """0 where only reading them would tell."""


def checkpoint_of(folder: Path) -> Checkpoint:
    """Count without reading. Raises UserError for a folder without weights and for a file that is cut short."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(folder.glob("*.bin"))
        n_bytes = sum(path.stat().st_size for path in pickled)
        if not n_bytes:
            raise UserError(f"{folder} holds no weights (*.safetensors); pass the folder of a transformers model")
        return Checkpoint(n_bytes // 4, n_bytes, torch.float32)
    weights: Counter[str] = Counter()
    headers = [_header(path) for path in files]
    for tensor in (tensor for header in headers for tensor in header.values()):
        weights[tensor["dtype"]] += math.prod(tensor["shape"])
    commonest = weights.most_common(1)[0][0]
    n_bytes = sum(path.stat().st_size for path in files)
    return Checkpoint(weights.total(), n_bytes, DTYPES.get(commonest, torch.float32), sum(map(len, headers)))


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """Source: the safetensors format: uint64 length, that many bytes of JSON, then the tensors."""
    size = path.stat().st_size
    try:
        with open_regular(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, dict[str, Any]] = json.loads(file.read(min(length, MAX_HEADER_BYTES)))
        header.pop("__metadata__", None)
        end = max(_checked(tensor)["data_offsets"][1] for tensor in header.values())
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, RecursionError) as garbled:
        raise UserError(f"{path} is damaged ({said_by(garbled)}); remove it and fetch the model again") from garbled
    if 8 + length + end != size:
        raise UserError(
            f"{path} has {size} bytes where its header wants {8 + length + end}; remove it and fetch the model again"
        )
    return header


def _checked(tensor: Any) -> dict[str, Any]:
    """The entry of a header for a tensor. Raises ValueError, LookupError or TypeError where it is something else."""
    sizes = [*tensor["shape"], *tensor["data_offsets"]]
    if not isinstance(tensor["dtype"], str) or not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(f"a tensor of {str(tensor)[:80]}")
    return dict(tensor)
