"""Rows of logits, and what the sampling chain leaves of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tui_entropy.engine.sampling.chain import apply
from tui_entropy.engine.sampling.distribution import ChainResult, SamplingContext
from tui_entropy.records.sampling import Knobs

OFF = Knobs(temperature=1.0, top_k=0, top_p=1.0)
"""Every stage off."""


def row(seed: int, vocab: int = 500, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * scale


def alive(scores: torch.Tensor) -> set[int]:
    return set((scores > -torch.inf).nonzero().squeeze(1).tolist())


def past(prompt: Sequence[int] = (), written: Sequence[int] = (), position: int = 0, **more: Any) -> SamplingContext:
    return SamplingContext(
        torch.tensor(prompt, dtype=torch.long), torch.tensor(written, dtype=torch.long), position, **more
    )


def logits_of(*probs: float) -> torch.Tensor:
    return torch.tensor(probs).log()


def left(knobs: Knobs, logits: torch.Tensor, **more: Any) -> set[int]:
    return alive(apply(knobs, logits, past(**more)).scores)


def counts(chained: ChainResult) -> dict[str, int]:
    return dict(zip(chained.stages, chained.summary()[:, 0].int().tolist(), strict=True))
