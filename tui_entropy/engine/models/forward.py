"""One forward pass through a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from tui_entropy.engine.architecture.architecture import cache_argument
from tui_entropy.engine.architecture.own_caches import OwnCache
from tui_entropy.engine.architecture.parts import taken_by

if TYPE_CHECKING:
    from tui_entropy.engine.models.loaded import Loaded


def forward(loaded: Loaded, cache: Cache | None, ids: Tensor, **more: Any) -> Tensor:
    """Read (rows, n) new tokens, without a cache a text by itself. Returns the (rows, vocab) float32 logits after the
    last of each.

    more: what the model is told beside them.
    """
    keep: int | Tensor = 1
    if ids.shape[1] > 1 and "logits_to_keep" in taken_by(loaded.architecture.decoder):
        # The blocks of such a decoder would leave out the other tokens too, of which all is to be seen.
        keep = torch.tensor([ids.shape[1] - 1], device=ids.device)
    logits: Tensor = read(loaded.model, cache, ids, logits_to_keep=keep, **more).logits[:, -1]
    return logits.float()


def read(model: PreTrainedModel, cache: Cache | None, ids: Tensor, **more: Any) -> Any:
    """One pass of a model over (rows, n) tokens behind those in a cache; over a text by itself without one.

    It is told what `generate` tells it. Its own guess of where the tokens stand is wrong in some families, which
    count from 0 whatever was before.
    """
    if isinstance(cache, OwnCache):
        return cache.run(model, ids, **more)
    if "position_ids" in taken_by(model) and "position_ids" not in more:
        first = 0 if cache is None else cache.get_seq_length()
        more["position_ids"] = torch.arange(first, first + ids.shape[1], device=ids.device).expand(len(ids), -1)
    keeping = {} if cache is None else {cache_argument(model): cache}
    return model(input_ids=ids, **keeping, use_cache=cache is not None, **more)
