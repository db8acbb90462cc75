"""The card of a model behind a server: nothing of its inside is known."""

from __future__ import annotations

from tui_entropy.records.model import ModelCard, ServerCard, Trust

KNOWN = (
    "entropy", "varentropy", "surprisal", "rank", "logit margin", "prob margin", "uniform kl", "perplexity",
    "window perplexity",
)  # fmt: skip
"""Metrics that follow from the most probable tokens, or have bounds then."""
INSIDE = ("sampling", "heads", "attention", "residual")
"""Groups of numbers that a server tells nothing of."""


def model_card(
    server: ServerCard, name: str, note: str, believed: str, vocab: int = 0, context: int = 0, requested: str = ""
) -> ModelCard:
    """believed: whose word its log-probabilities are. vocab, context: 0 where they are not told."""
    unavailable = Trust("unavailable", f"{server.name} tells nothing of it")
    return ModelCard(
        name=name, revision=None, source=server.url, note=note, device=server.url.partition("://")[2], dtype="",
        n_layers=0, n_heads=0, n_kv_heads=0, d_model=0, vocab=vocab, context=context, layer_kinds=(), windows=(),
        attention=(), has_chat_template=True, versions={}, requested=requested or name, server=server,
        trust={"logits": Trust("unchecked", believed), **dict.fromkeys(INSIDE, unavailable)},
    )  # fmt: skip
