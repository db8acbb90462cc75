"""The trial of batches: whether a model says the same of a text with others beside it and padding behind it."""

from __future__ import annotations

import torch

from tui_entropy.engine.loading.trial import EXACT, ROUNDING, is_plain
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.batches import Together
from tui_entropy.engine.scoring.passage import Passage, left_to_right
from tui_entropy.engine.scoring.scorer import score_batch

LENGTHS = (15, 11)
"""Tokens of two texts, the shorter of which is padded."""


def together_of(loaded: Loaded) -> Together:
    """Which passages may stand in a batch: 'alone' where a text that stands beside another, or is padded, is read in
    another way than by itself. Models of plain attention are known to be read alike."""
    if is_plain(loaded):
        return "padded"
    texts = [_text(loaded, n, first) for n, first in zip(LENGTHS, (3, 5), strict=True)]
    bound = ROUNDING.get(loaded.model.dtype, EXACT)
    alone = [score_batch(loaded, [text])[0].scores[:, 0] for text in texts]
    try:
        beside = [one.scores[:, 0] for one in score_batch(loaded, texts)]
    except Exception:  # of whatever model, whose code is anybody's
        return "alone"
    same = all(torch.allclose(one, other, atol=10 * bound) for one, other in zip(alone, beside, strict=True))
    return "padded" if same else "alone"


def _text(loaded: Loaded, n: int, first: int) -> Passage:
    ids = torch.arange(first, first + 3 * n, 3).remainder(loaded.architecture.vocab)
    return left_to_right(ids.tolist())
