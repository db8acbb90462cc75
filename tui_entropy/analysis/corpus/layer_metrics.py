"""The metrics of layers that an analysis tells: what each is called in files, and how it follows from the scores of a
text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_entropy.records.corpus.scores import LayerScores
from tui_entropy.records.step import BLOCKS

Floats = npt.NDArray[np.float64]
LENS = ("entropy", "surprisal", "logit_margin", "uniform_kl")
"""Of SCORES, those that are read at every layer."""


@dataclass(frozen=True)
class LayerMetric:
    """One number for each layer of a text."""

    name: str
    """In files, as llm_entropy has it."""
    title: str
    """On plots, with the unit."""
    of: Callable[[LayerScores], Floats]
    """(layers,) of a text."""
    first: int = 0
    """The layer that the first number is of: 0 the embedding, 1 the first block."""


def _lens(name: str) -> Callable[[LayerScores], Floats]:
    return lambda layers: layers.lens.numpy()[..., layers.names.index(name)].mean(-1, dtype=np.float64)


def _perplexity(layers: LayerScores) -> Floats:
    """exp of the mean surprisal of the tokens that come next; beyond what a float can hold, the largest float."""
    return np.exp(np.minimum(_lens("surprisal")(layers), np.log(np.finfo(np.float64).max)))


def _hidden(name: str) -> Callable[[LayerScores], Floats]:
    return lambda layers: layers.hidden.numpy()[..., BLOCKS.index(name)].mean(-1, dtype=np.float64)


METRICS = (
    LayerMetric("layer_entropies", "layer entropy (nats)", _lens("entropy")),
    LayerMetric("layer_perplexities", "layer perplexity", _perplexity),
    LayerMetric("layer_margins", "layer margin (logits)", _lens("logit_margin")),
    LayerMetric("layer_kl_divs", "KL from uniform (nats)", _lens("uniform_kl")),
    LayerMetric(
        "layer_attn_entropies", "attention entropy (nats)",
        lambda layers: layers.attention_entropy.numpy().mean(-1, dtype=np.float64), first=1,
    ),
    LayerMetric("layer_surprisals", "surprisal of the next token (nats)", _lens("surprisal")),
    LayerMetric("layer_hidden_means", "mean of the hidden state", _hidden("mean")),
    LayerMetric("layer_hidden_stds", "standard deviation of the hidden state", _hidden("std")),
    LayerMetric("layer_hidden_norms", "L2 norm of the hidden state", _hidden("norm")),
)  # fmt: skip


def values_of(layers: LayerScores) -> dict[str, list[float | None]]:
    """Metric -> one number for each layer, the mean over the tokens that are scored; None is unknown."""
    return {metric.name: list(map(rounded, metric.of(layers).tolist())) for metric in METRICS}


def rounded(value: float) -> float | None:
    """To what float32 can tell; None for what is no number."""
    return float(f"{value:.7g}") if np.isfinite(value) else None
