"""How sure a model was of its most probable token, and whether that was the one that came; under any temperature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tui_entropy.engine.calibration.temperature import Rows
from tui_entropy.engine.instruments.prompt_scores import SLICE_BYTES, scores
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import BY_NAME

CONFIDENCE = (
    Metric("confidence", "share", "model", 1.0, "The probability of the most probable token.",
           compute=lambda at: at.best[..., 0].exp()),
    Metric("said", "number", "model", 1.0, "The most probable token's id.", compute=lambda at: at.logp.argmax(-1)),
    BY_NAME["surprisal"],
    Metric("sum of squares", "number", "model", 1.0, "Of the probabilities of all tokens.",
           compute=lambda at: at.logp.exp().square().sum(-1)),
)  # fmt: skip
"""What confidence is judged by, as columns of scores. Up to 2^24 a float holds every id."""


class Confidences(NamedTuple):
    """Of positions of a text, on the host."""

    confidence: Tensor
    """(n,) float64, of the most probable token."""
    said: Tensor
    """(n,) int64, its id."""
    surprisal: Tensor
    """(n,) nats, of the token that came."""
    brier: Tensor
    """(n,) sum over all tokens of (p - whether it came)², 0 ... 2."""

    @classmethod
    def of(cls, table: Tensor) -> Confidences:
        """table: (n, len(CONFIDENCE))."""
        confidence, said, surprisal, squares = table.double().unbind(-1)
        return cls(confidence, said.long(), surprisal, squares - 2 * (-surprisal).exp() + 1)


@torch.inference_mode()
def confidences(loaded: Loaded, residual: Tensor, targets: Sequence[int], temperature: float) -> Confidences:
    """residual: (n, d_model) as the final norm reads it."""
    wanted = torch.tensor(list(targets), device=residual.device)
    return Confidences.of(scores(loaded.model, loaded.architecture, residual, wanted, CONFIDENCE, temperature).cpu())


def logit_rows(loaded: Loaded, residual: Sequence[Tensor], targets: Sequence[Sequence[int]]) -> Rows:
    """The logits of positions in slices, made anew each time: what is kept are vectors. residual, targets: of
    passages, as they were scored."""
    per_slice = max(SLICE_BYTES // (4 * loaded.architecture.vocab), 1)

    @torch.inference_mode()
    def rows() -> Iterator[tuple[Tensor, Tensor]]:
        for vectors, came in zip(residual, targets, strict=True):
            wanted = torch.tensor(list(came), device=vectors.device)
            for some, its in zip(torch.split(vectors, per_slice), torch.split(wanted, per_slice), strict=True):
                yield unembed(loaded.model, loaded.architecture, some), its

    return rows
