"""What each layer of a batch would have said, and what it holds, worked out while the batch is read.

A layer is measured as soon as its block has put it out, so that one layer of the residual stream is there at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_entropy.engine.decomposition.residual_stream import heard_stream
from tui_entropy.engine.instruments.prompt_scores import scores
from tui_entropy.engine.instruments.residual import block_stats
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.batches import Places
from tui_entropy.metrics.metric import Metric

SLICE_BYTES = 30 << 20
"""Of the logits that are made at a time, in float32: they are measured before they leave the last cache, and their
memory is used again. A matrix that is laid out is read as fast for so few rows as for many."""
N_ROWS = 152
"""Rows that the unembedding is laid out for: those of a slice, with a vocabulary of 50,000."""


@dataclass(frozen=True)
class LayerTables:
    """Tables of the layers, float32 on the host; None where nobody asked. NaN is unknown."""

    lens: Tensor | None = None
    """(n_layers + 1, n, metrics)"""
    attention: Tensor | None = None
    """(n_layers, n) nats"""
    hidden: Tensor | None = None
    """(n_layers + 1, n, len(BLOCKS))"""

    def by_passage(self, sizes: Sequence[int]) -> list[LayerTables]:
        """Of each passage its own positions."""
        parts = [
            [None] * len(sizes) if table is None else torch.split(table, list(sizes), 1)
            for table in (self.lens, self.attention, self.hidden)
        ]
        return [LayerTables(*its) for its in zip(*parts, strict=True)]


class LayerWatch:
    """The layers of one pass."""

    def __init__(
        self, loaded: Loaded, places: Places, metrics: Sequence[Metric], hidden: bool, temperature: float
    ) -> None:
        self._loaded, self._places, self._last = loaded, places, loaded.architecture.n_layers
        self._metrics, self._hidden, self._temperature = metrics, hidden, temperature
        self._lens: dict[int, Tensor] = {}
        self._stats: dict[int, Tensor] = {}
        self._measuring = False

    def take(self, layer: int, stream: Tensor) -> None:
        """stream: (batch, n_tokens, d_model)."""
        if self._measuring:  # what is read through the final norm is no layer of the text
            return
        self._measuring = True
        try:
            vectors = stream[self._places.rows.to(stream.device), self._places.positions.to(stream.device)]
            if self._hidden:
                self._stats[layer] = block_stats(vectors)
            if self._metrics and layer < self._last:
                model, architecture = self._loaded.model, self._loaded.architecture
                targets = self._places.targets.to(stream.device)
                self._lens[layer] = scores(
                    model, architecture, vectors, targets, self._metrics, self._temperature, SLICE_BYTES
                )
        finally:
            self._measuring = False

    def take_last(self, numbers: Tensor) -> None:
        """The (n, metrics) of the last layer, which are those of the model's own logits."""
        if self._metrics:
            self._lens[self._last] = numbers

    def tables(self, attention: Tensor | None) -> LayerTables:
        """What was found, with the (n_layers, n) entropies of attention rows."""

        def together(found: dict[int, Tensor]) -> Tensor | None:
            device = self._places.rows.device
            return torch.stack([found[layer].to(device) for layer in sorted(found)]).cpu() if found else None

        heard = None if attention is None else attention.cpu()
        return LayerTables(together(self._lens), heard, together(self._stats))


@contextmanager
def heard_layers(
    loaded: Loaded, places: Places, metrics: Sequence[Metric], hidden: bool, temperature: float
) -> Iterator[LayerWatch]:
    """Measure every layer of the passes within the `with`, if anything is wanted of it."""
    watch = LayerWatch(loaded, places, metrics, hidden, temperature)
    if not (metrics or hidden):
        yield watch
        return
    with heard_stream(loaded.architecture, watch.take):
        yield watch
