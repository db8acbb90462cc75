"""Snapshot: a text as it was before one of its steps, to be written on from in several ways."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Self

from torch import Tensor
from transformers import Cache

from tui_entropy.engine.cache.kv_cache import PreallocatedCache, kv_slices
from tui_entropy.engine.sequence.sequence import TokenSequence


@dataclass(frozen=True)
class Snapshot:
    """A text as it was before one of its steps."""

    prompt: Tensor
    """(n,) ids."""
    written: Tensor
    """(m,) ids."""
    position_offset: int
    mu: float | None
    """See TokenSequence for both."""
    cache: Cache
    """Which holds all of it; copied, and not written to."""
    logits: Tensor
    """(vocab,) float32 after the last of it."""

    @classmethod
    def of(cls, sequence: TokenSequence, step: int, cache: Cache, logits: Tensor) -> Self:
        return cls(
            sequence.prompt,
            sequence.written[:step],
            sequence.position_offset,
            sequence.mirostat_mus[step],
            cache,
            logits,
        )

    @property
    def position(self) -> int:
        """The number of its tokens."""
        return len(self.prompt) + len(self.written)

    @property
    def bytes_per_token(self) -> int:
        """The bytes that the keys and values of a token take in one row."""
        held = kv_slices(self.cache, 0, 1).values()
        return sum(keys[:1].nbytes + values[:1].nbytes for keys, values in held)

    def times(self, n: int) -> Cache:
        """Its cache in n rows, to be written on."""
        if isinstance(self.cache, PreallocatedCache):
            return self.cache.repeat_prefix(self.position, n)
        return copy.deepcopy(self.cache)
