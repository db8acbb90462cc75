"""The inputs of a metric and of its check, as types: tensors of torch, and arrays of numpy.

Neither is imported here, and nothing here is needed while the program runs.
"""

from __future__ import annotations

from typing import Any, Protocol


class StepTensors(Protocol):
    """The tensors of one step, or of several positions of a prompt, that a metric is computed from."""

    @property
    def logits(self) -> Any:
        """(..., vocab) float32 of the model."""

    @property
    def logp(self) -> Any:
        """(..., vocab) float32, ln p."""

    @property
    def best(self) -> Any:
        """(..., k) ln p of the most probable tokens, in order; at least two, where the vocabulary has two."""

    @property
    def token(self) -> Any:
        """(...,) int64 ids of the tokens that came next. Only a metric `of_token` may look at them."""

    @property
    def moments(self) -> tuple[Any, Any]:
        """(...,) mean and variance of the surprisal under the model: nats, nats squared."""

    @property
    def entropy(self) -> Any:
        """(...,) nats, of the model."""

    @property
    def surprisal(self) -> Any:
        """(...,) nats, of the token."""

    @property
    def rank(self) -> Any:
        """(...,) of the token, 1 for the most probable; ties share the better one."""

    @property
    def margins(self) -> tuple[Any, Any]:
        """(...,) what the most probable token is ahead of the second, as logits and as probability."""


class Belief(Protocol):
    """A row of logits in float64 on the host, for a check: arrays of numpy."""

    @property
    def logits(self) -> Any:
        """(vocab,)."""

    @property
    def token(self) -> int:
        """The token that came next."""

    @property
    def close(self) -> float:
        """The distance up to which the first way cannot tell logits apart."""

    @property
    def size(self) -> float:
        """The largest of the logits, without its sign: what rounding acts on."""

    @property
    def surprisals(self) -> Any:
        """(vocab,) -ln p."""

    @property
    def p(self) -> Any:
        """(n,) probabilities of the tokens that are possible at all."""

    @property
    def nats(self) -> Any:
        """(n,) -ln p of the same."""
