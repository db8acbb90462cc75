"""Loaded: a model that is ready to be read, with its tokenizer and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.model import ModelCard


@dataclass(frozen=True)
class Loaded:
    model: PreTrainedModel
    """In eval mode, without gradients, with the attention implementation that is its default."""
    tokenizer: Tokenizer
    architecture: Architecture
    card: ModelCard
    graph: bool = False
    """Decode steps may run as a CUDA graph, where there are any."""
