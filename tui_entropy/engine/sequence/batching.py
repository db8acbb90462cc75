"""Two rows of one cache, and one of them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_entropy.engine.cache.kv_cache import RoomyCache

if TYPE_CHECKING:
    from tui_entropy.engine.sequence.sequence import Context


def can_stack(watched: Context, own: Context) -> bool:
    """Whether two contexts can share forward passes: as many tokens, and keys and values that are kept as rows."""
    both = isinstance(watched.cache, RoomyCache) and isinstance(own.cache, RoomyCache)
    return both and (watched.n_read, watched.n_tokens) == (own.n_read, own.n_tokens)


def stack(watched: Context, own: Context) -> None:
    """From now on one forward pass is for both."""
    assert isinstance(watched.cache, RoomyCache) and isinstance(own.cache, RoomyCache)
    watched.cache = own.cache = watched.cache.over(own.cache)
    watched.rows = own.rows = [watched, own]


def part(watched: Context) -> None:
    """Each has a cache of its own again, in the memory that they shared."""
    rows, cache = watched.rows, watched.cache
    if len(rows) > 1:
        assert isinstance(cache, RoomyCache)
        for n, row in enumerate(rows):
            row.cache, row.rows = cache.row(n), [row]
