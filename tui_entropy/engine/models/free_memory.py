"""The memory that is free where a model is."""

from __future__ import annotations

import psutil
import torch


def free_bytes(device: torch.device) -> int:
    """Of a GPU that the model is on, else of this machine."""
    return (
        int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else int(psutil.virtual_memory().available)
    )
