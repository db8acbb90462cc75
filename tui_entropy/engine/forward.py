"""One forward pass through a model."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache

from tui_entropy.engine.loading import Loaded


def forward(loaded: Loaded, cache: Cache, ids: Tensor, **more: Any) -> Tensor:
    """Read (rows, n) new tokens. Returns the (rows, vocab) float32 logits after the last of each.

    more: what the model is told beside them.
    """
    keeping = {loaded.anatomy.cache_argument: cache}
    out = loaded.model(input_ids=ids, **keeping, use_cache=True, logits_to_keep=1, **more)
    logits: Tensor = out.logits[:, -1]
    return logits.float()
