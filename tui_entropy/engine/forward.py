"""One forward pass through a model."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache, PreTrainedModel

from tui_entropy.engine.anatomy import cache_argument
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.own_caches import OwnCache


def forward(loaded: Loaded, cache: Cache, ids: Tensor, **more: Any) -> Tensor:
    """Read (rows, n) new tokens. Returns the (rows, vocab) float32 logits after the last of each.

    more: what the model is told beside them.
    """
    logits: Tensor = read(loaded.model, cache, ids, logits_to_keep=1, **more).logits[:, -1]
    return logits.float()


def read(model: PreTrainedModel, cache: Cache | None, ids: Tensor, **more: Any) -> Any:
    """One pass of a model over (rows, n) tokens behind those in a cache; over a text by itself without one."""
    if isinstance(cache, OwnCache):
        return cache.run(model, ids, **more)
    keeping = {} if cache is None else {cache_argument(model): cache}
    return model(input_ids=ids, **keeping, use_cache=cache is not None, **more)
