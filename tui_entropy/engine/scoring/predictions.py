"""What a model would write next where a passage ends: the likeliest tokens, or one that is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tui_entropy.engine.sampling.gumbel import gumbel
from tui_entropy.engine.scoring.passage import Passage

Likeliest = list[tuple[int, float]]
"""Token ids with their probabilities."""
Predict = Callable[[Tensor, Sequence[Passage]], list[Likeliest]]
"""(batch, vocab) logits behind the last token of each passage -> what is told of each."""


def likeliest(k: int) -> Predict:
    """The k likeliest, the likeliest first."""

    def predict(logits: Tensor, passages: Sequence[Passage]) -> list[Likeliest]:
        best = logits.softmax(-1).topk(min(k, logits.shape[-1]))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [list(zip(ids, values, strict=True)) for ids, values in pairs]

    return predict


def drawn(seed: int) -> Predict:
    """One token that is drawn, the one that a run of this seed draws in this place."""

    def predict(logits: Tensor, passages: Sequence[Passage]) -> list[Likeliest]:
        logp = logits.log_softmax(-1)
        every = torch.arange(logp.shape[-1], device=logp.device)
        ids = [
            int((row + gumbel(every, seed, (one.end or 0) + 1)).argmax())
            for row, one in zip(logp, passages, strict=True)
        ]
        return [[(token, float(row[token].exp()))] for token, row in zip(ids, logp, strict=True)]

    return predict
