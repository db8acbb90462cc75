"""The scores of a prompt's tokens, each by the position before it, a slice of them at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.instruments.step_tensors import RowTensors, StepTensors, computed
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import METRICS

SLICE_BYTES = 48 << 20
"""Of the logits that are made at a time, in float32: enough rows for the unembedding to be read few times over."""
CACHED_BYTES = 4 << 20
"""Of the logits that are measured at a time: what is made of them stays in the cache."""
PROMPT_METRICS = tuple(metric for metric in METRICS if metric.on_prompt)
"""Those of SCORES."""


class FinalResidual:
    """The residual stream behind all blocks in the newest forward pass: see `final_residual`."""

    batch: Tensor
    """(rows, n, d_model) for all n positions of the pass."""

    @property
    def residual(self) -> Tensor:
        """(n, d_model) of the first sequence of the batch."""
        return self.batch[0]


@contextmanager
def final_residual(architecture: Architecture) -> Iterator[FinalResidual]:
    """Keep every position of the residual stream as the final norm reads it while the `with` lasts: what the last
    block put out, steering included, and of a model with several streams what it makes of them all."""
    held = FinalResidual()

    def keep(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        held.batch = args[0]

    def keep_output(decoder: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        held.batch = output[0]

    if architecture.tail:
        hook = architecture.tail[0].register_forward_pre_hook(keep)
    else:
        hook = architecture.decoder.register_forward_hook(keep_output)
    try:
        yield held
    finally:
        hook.remove()


def scores(
    model: PreTrainedModel,
    architecture: Architecture,
    residual: Tensor,
    targets: Tensor,
    metrics: Sequence[Metric] = PROMPT_METRICS,
    temperature: float = 1.0,
    slice_bytes: int | None = None,
) -> Tensor:
    """The scores of each position: what the model believed there, and of the token that came next.

    residual: (n, d_model) as the final norm reads it; targets: (n,) ids of the tokens that follow each position;
    temperature: what the logits are divided by; slice_bytes: of the logits that are made at a time, SLICE_BYTES
    unless said. Returns (n, len(metrics)) float32 on the device, in the order and the units of SCORES; NaN is
    unknown. No matrix of n x vocab is built.
    """
    row_bytes = 4 * architecture.vocab
    n_measured = max(CACHED_BYTES // row_bytes, 1)
    n_slices = math.ceil(len(targets) * row_bytes / (slice_bytes or SLICE_BYTES))
    rows: list[Tensor] = []
    # As large as one another: a small one left over would read the unembedding for next to nothing.
    for vectors, wanted in zip(residual.tensor_split(n_slices), targets.tensor_split(n_slices), strict=True):
        parts = torch.split(wanted, n_measured)
        logits = unembed(model, architecture, vectors)
        for some, its in zip(torch.split(logits, n_measured), parts, strict=True):
            rows.append(_scores(some if temperature == 1 else some / temperature, its, metrics))
    return torch.cat(rows)


def _scores(logits: Tensor, targets: Tensor, metrics: Sequence[Metric]) -> Tensor:
    """(n, vocab) float32, overwritten, and (n,) -> (n, len(metrics))."""
    tensors = RowTensors(logits, targets) if logits.device.type == "cpu" else StepTensors(logits, token=targets)
    return torch.stack([computed(metric, tensors).float() for metric in metrics], -1)
