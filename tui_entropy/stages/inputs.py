"""The arguments of a stage's functions, as types: tensors of torch, and in checks arrays of numpy.

Neither is imported here, and nothing here is needed while the program runs.
"""

from __future__ import annotations

from typing import Any, Protocol


class Row(Protocol):
    """The result of the stage before."""

    scores: Any
    """(n,) float32; -inf for a token of the whole vocabulary that can not be drawn."""
    narrows: bool
    """Whether this is on the host, where numbers may be looked at."""
    logp: Any
    """(n,) ln p, nats."""
    entropy: Any
    """0-d, nats."""
    survivors: Any
    """0-d int64: how many tokens can be drawn."""
    alive: Any
    """(n,) bool: which."""

    def best(self, numbers: Any) -> Any:
        """(n,) -> (n,) bool: the place of the highest alone."""

    def above(self, numbers: Any, edge: float) -> Any:
        """(n,) -> (k,) int64: the places of those above an edge, in order. On the host only."""

    def sums(self, token_ids: Any, values: Any) -> Any:
        """(k,) ids, (k,) float32 -> (n,): the sum of the values of each token of the row."""


class Past(Protocol):
    """The text so far, as a stage knows it."""

    prompt: Any
    """(n,) int64 ids."""
    written: Any
    """(m,) int64 ids."""
    mu: Any
    """Bits; mirostat's bound. None at the start of a text."""
    breakers: frozenset[int]
    """Ids of the tokens that end a repeated sequence for DRY."""

    def seen(self, last_n: int) -> Any:
        """(k,) newest ids of prompt and written text; all of them where last_n is 0."""

    def number(self, seed: int) -> Any:
        """A uniform number in (0, 1), another one at each step of a seed."""


class ExactRow(Protocol):
    """A whole vocabulary in float64, for a check: (vocab,) arrays."""

    scores: Any
    logp: Any
    p: Any
    alive: Any
    ids: Any
    survivors: int
    entropy: float

    def nearest(self, values: Any, edge: float) -> float:
        """The smallest distance of a value from an edge, as CLOSE is."""


class ExactPast(Protocol):
    """The text so far in plain Python, for a check."""

    written: tuple[int, ...]
    mu: float | None
    breakers: frozenset[int]

    def newest(self, n: int) -> tuple[int, ...]:
        """Ids of prompt and text, all of them where n is 0."""

    def number(self, seed: int) -> float: ...
