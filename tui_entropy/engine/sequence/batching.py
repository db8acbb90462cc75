"""Two rows of one cache, and one of them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_entropy.engine.cache.kv_cache import PreallocatedCache

if TYPE_CHECKING:
    from tui_entropy.engine.sequence.sequence import TokenSequence


def can_batch(watched: TokenSequence, own: TokenSequence) -> bool:
    """Whether two sequences can share forward passes: as many tokens, and keys and values that are kept as rows."""
    both = isinstance(watched.cache, PreallocatedCache) and isinstance(own.cache, PreallocatedCache)
    return both and (watched.n_read, watched.n_tokens) == (own.n_read, own.n_tokens)


def join_batch(watched: TokenSequence, own: TokenSequence) -> None:
    """From now on one forward pass is for both."""
    assert isinstance(watched.cache, PreallocatedCache) and isinstance(own.cache, PreallocatedCache)
    watched.cache = own.cache = watched.cache.concat_batch(own.cache)
    watched.batch = own.batch = [watched, own]


def leave_batch(watched: TokenSequence) -> None:
    """Each has a cache of its own again, in the memory that they shared."""
    rows, cache = watched.batch, watched.cache
    if len(rows) > 1:
        assert isinstance(cache, PreallocatedCache)
        for n, row in enumerate(rows):
            row.cache, row.batch = cache.batch_row(n), [row]
