"""What is kept beside the text that is written: keys and values of other branches, and states to go back to.

All of it comes to at most `bound` bytes. What was not used for the longest time goes first, and is read again when it
is wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import Cache

from tui_entropy.engine.cache.kv_cache import Columns, RoomyLayer, States, n_bytes, states, tensors


@dataclass(frozen=True, eq=False)
class Tail:
    """Keys and values of a stretch of tokens."""

    first: int
    """Position of the first of them."""
    stamps: tuple[int, ...]
    """Of each: see Context.stamps."""
    columns: Columns

    def known(self, position: int, stamps: Sequence[int]) -> bool:
        """Whether it has the keys and values of the token at that position of a context with these stamps."""
        at = position - self.first
        return 0 <= at < len(self.stamps) and position < len(stamps) and self.stamps[at] == stamps[position]


class Kept:
    """Tails and states, least recently used first."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.bytes = 0
        self._all: OrderedDict[int | Tail, tuple[Tail | States, int]] = OrderedDict()
        """A tail stands under itself, a state under the stamp of the token that it follows."""

    def __len__(self) -> int:
        return len(self._all)

    def keep_tail(self, first: int, stamps: Sequence[int], columns: Columns) -> None:
        """Copy the keys and values of the tokens from a position on, unless there is no room for them."""
        size = sum(part.nbytes for pair in columns.values() for part in pair)
        if not size or not self._make_room(size):
            return
        copies = {index: (keys.clone(), values.clone()) for index, (keys, values) in columns.items()}
        tail = Tail(first, tuple(stamps), copies)
        self._put(tail, tail, size)

    def keep_state(self, stamp: int, cache: Cache) -> None:
        """Copy what the layers that cannot be shortened hold after the token with this stamp."""
        layers = (layer for layer in cache.layers if not isinstance(layer, RoomyLayer))
        size = n_bytes(tensor for layer in layers for tensor in tensors(layer))
        if size and stamp not in self._all and self._make_room(size):
            self._put(stamp, states(cache), size)

    def tail(self, position: int, stamps: Sequence[int], most: int) -> tuple[Columns, int] | None:
        """Keys and values from a position on, at most up to another, as far as they are those of a context with these
        stamps: views, and up to which position. None where nothing is kept of the first."""
        found = next((key for key in self._all if isinstance(key, Tail) and key.known(position, stamps)), None)
        if found is None:
            return None
        self._all.move_to_end(found)
        last = position + 1
        while last < most and found.known(last, stamps):
            last += 1
        inner = slice(position - found.first, last - found.first)
        return {i: (keys[..., inner, :], values[..., inner, :]) for i, (keys, values) in found.columns.items()}, last

    def state(self, n: int, stamps: Sequence[int]) -> tuple[int, States] | None:
        """The newest state that is kept of the first n tokens: after how many of them, and it."""
        for position in range(min(n, len(stamps)), 0, -1):
            stamp = stamps[position - 1]
            if found := self._all.get(stamp):
                self._all.move_to_end(stamp)
                assert not isinstance(found[0], Tail)
                return position, found[0]
        return None

    def release(self, n: int, stamps: Sequence[int]) -> None:
        """Tails all of which lie in the first n tokens of a context with these stamps: its cache has them now."""
        for key in [key for key in self._all if isinstance(key, Tail)]:
            last = key.first + len(key.stamps)
            if last <= n and key.stamps == tuple(stamps[key.first : last]):
                self._remove(key)

    def drop(self, stamps: set[int]) -> None:
        """All that does not belong to one of the tokens with these stamps."""
        for key in list(self._all):
            if not isinstance(key, Tail):
                if key not in stamps:
                    self._remove(key)
                continue
            n = sum(stamp in stamps for stamp in key.stamps)  # the first of them: what follows one has others too
            if n < len(key.stamps):
                self._remove(key)
                first = {i: (keys[..., :n, :], values[..., :n, :]) for i, (keys, values) in key.columns.items()}
                self.keep_tail(key.first, key.stamps[:n], first)

    def _put(self, key: int | Tail, kept: Tail | States, size: int) -> None:
        self._all[key] = kept, size
        self.bytes += size

    def _remove(self, key: int | Tail) -> None:
        self.bytes -= self._all.pop(key)[1]

    def _make_room(self, size: int) -> bool:
        if size > self.bound:
            return False
        while self.bytes + size > self.bound:
            self._remove(next(iter(self._all)))
        return True
