"""The scores of a text that is there already: what a model thought of each of its tokens, and what each layer did."""

from __future__ import annotations

from msgspec import Struct

from tui_entropy.records.arrays import Grid
from tui_entropy.records.bounds import Words
from tui_entropy.records.step import PromptToken


class LayerScores(Struct, frozen=True):
    """What each layer would have said at each position that is scored, and what it holds there.

    Layer 0 is the embedding, layer k what block k puts out. A position is that before the token that it is about, so
    a column is what `Step` has of that token. Unknown is NaN.
    """

    lens: Grid
    """(n_layers + 1, n_scored, len(names)): read through the final norm and the unembedding."""
    names: tuple[Words, ...]
    """Of SCORES (metrics/registry.py), in their units."""
    attention_entropy: Grid
    """(n_layers, n_scored) nats: the mean over the heads of a block; index k - 1 is block k."""
    hidden: Grid
    """(n_layers + 1, n_scored, len(BLOCKS)): mean, population standard deviation and L2 norm."""


class Prediction(Struct, frozen=True, array_like=True):
    """A token that a model holds likely where a text ends."""

    token_id: int
    token_bytes: bytes
    probability: float


class TextScores(Struct, frozen=True):
    """A text with what a model thought of its tokens from one of them on."""

    tokens: tuple[PromptToken, ...]
    scored: tuple[int, ...]
    """Indices of the tokens that are scored, in order: all but the first where a text is read from left to right."""
    scores: Grid
    """(n_scored, len(names))"""
    names: tuple[Words, ...]
    """SCORES (metrics/registry.py), in their units."""
    layers: LayerScores | None = None
    """None where nobody asked."""
    predictions: tuple[Prediction, ...] = ()
    """What would come next, the likeliest first; empty where nobody asked."""

    def column(self, name: str) -> list[float]:
        """One of `names`, of each token that is scored. Raises ValueError for another name."""
        return self.scores.column(self.names.index(name))

    @property
    def log_likelihood(self) -> float:
        """Nats, of the tokens that are scored together: the sum of ln p, at most 0. By a model that fills in masked
        tokens it is the pseudo-log-likelihood."""
        return -sum(self.column("surprisal"))
