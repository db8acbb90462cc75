"""Batches of passages of similar length, each padded on its right to the longest.

What stands behind a token changes nothing of it in a model that reads from left to right, so padding needs no mask.
Batches follow from the passages alone: whoever scores a part of them again, by the same batches, has the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tui_entropy.engine.scoring.passage import Passage

Together = Literal["padded", "equal", "alone"]
"""Which passages may stand in a batch: of similar length, of the same length, or none beside another."""
MAX_TOKENS = 2048
"""Of a batch, padding counted: enough for the weights to be read few times, and little memory."""
MAX_PADDING = 0.15
"""Share of a batch."""


def batches(passages: Sequence[Passage], together: Together, max_tokens: int = MAX_TOKENS) -> list[list[int]]:
    """Indices of passages, the shortest first; a passage longer than `max_tokens` stands alone."""
    order = sorted(range(len(passages)), key=lambda at: len(passages[at]))
    found: list[list[int]] = []
    n_real = 0
    for at in order:
        longest = len(passages[at])
        if found and _fits(found[-1], passages, longest, n_real + longest, together, max_tokens):
            found[-1].append(at)
            n_real += longest
        else:
            found.append([at])
            n_real = longest
    return found


def _fits(
    batch: list[int], passages: Sequence[Passage], longest: int, n_real: int, together: Together, max_tokens: int
) -> bool:
    """Whether one more passage, the longest of them, may join a batch. n_real: tokens of all of them."""
    n_padded = longest * (len(batch) + 1)
    if together == "alone" or n_padded > max_tokens:
        return False
    if together == "equal":
        return len(passages[batch[0]]) == longest
    return n_padded - n_real <= MAX_PADDING * n_padded


class Places:
    """The positions of a batch at which a model is asked, as indices."""

    def __init__(self, passages: Sequence[Passage], device: torch.device) -> None:
        rows = [row for row, passage in enumerate(passages) for _ in passage.positions]
        self.sizes = [len(passage.positions) for passage in passages]
        self.rows = torch.tensor(rows, dtype=torch.long, device=device)
        """(n,)"""
        positions = [position for passage in passages for position in passage.positions]
        self.positions = torch.tensor(positions, dtype=torch.long, device=device)
        """(n,)"""
        targets = [target for passage in passages for target in passage.targets]
        self.targets = torch.tensor(targets, dtype=torch.long, device=device)
        """(n,)"""
        self.single = all(size == 1 for size in self.sizes)
        """Each passage is asked at one position."""
        ends = [(row, passage.end) for row, passage in enumerate(passages) if passage.end is not None]
        self.asked = [row for row, _ in ends]
        """The rows of which it is told what would come next."""
        self.ends = torch.tensor(ends, dtype=torch.long, device=device).view(-1, 2)
        """(n, 2) these rows, and where they are asked."""

    def of(self, batch: Tensor) -> Tensor:
        """(batch, n_tokens, ...) -> (n, ...)"""
        return batch[self.rows, self.positions]


def padded(passages: Sequence[Passage], device: torch.device) -> Tensor:
    """(batch, n_tokens) ids; what stands behind a shorter one is its own last token, which the model knows."""
    longest = max(map(len, passages))
    rows = [[*passage.ids, *[passage.ids[-1]] * (longest - len(passage))] for passage in passages]
    return torch.tensor(rows, dtype=torch.long, device=device)
