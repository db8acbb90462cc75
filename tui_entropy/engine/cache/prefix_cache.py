"""The prefix cache, beside the text that is written: keys and values of other branches, and states to go back to.

All of it comes to at most `bound` bytes. What was not used for the longest time goes first, and is read again when it
is wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import Cache

from tui_entropy.engine.cache.kv_cache import (
    KVSlices,
    PreallocatedLayer,
    RecurrentStates,
    n_bytes,
    recurrent_states,
    tensors,
)


@dataclass(frozen=True, eq=False)
class KVSegment:
    """Keys and values of a stretch of tokens."""

    first: int
    """Position of the first of them."""
    prefix_ids: tuple[int, ...]
    """Of each: see TokenSequence.prefix_ids."""
    kv_slices: KVSlices

    def known(self, position: int, prefix_ids: Sequence[int]) -> bool:
        """Whether it has the keys and values of the token at that position of a sequence with these prefix ids."""
        at = position - self.first
        return (
            0 <= at < len(self.prefix_ids)
            and position < len(prefix_ids)
            and self.prefix_ids[at] == prefix_ids[position]
        )


class PrefixCache:
    """Segments and states, least recently used first."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.bytes = 0
        self._all: OrderedDict[int | KVSegment, tuple[KVSegment | RecurrentStates, int]] = OrderedDict()
        """A segment stands under itself, a state under the prefix id of the token that it follows."""

    def __len__(self) -> int:
        return len(self._all)

    def put_segment(self, first: int, prefix_ids: Sequence[int], kv_slices: KVSlices) -> None:
        """Copy the keys and values of the tokens from a position on, unless there is no room for them."""
        size = sum(part.nbytes for pair in kv_slices.values() for part in pair)
        if not size or not self._make_room(size):
            return
        copies = {index: (keys.clone(), values.clone()) for index, (keys, values) in kv_slices.items()}
        segment = KVSegment(first, tuple(prefix_ids), copies)
        self._put(segment, segment, size)

    def put_state(self, prefix_id: int, cache: Cache) -> None:
        """Copy what the layers that cannot be shortened hold after the token with this prefix id."""
        layers = (layer for layer in cache.layers if not isinstance(layer, PreallocatedLayer))
        size = n_bytes(tensor for layer in layers for tensor in tensors(layer))
        if size and prefix_id not in self._all and self._make_room(size):
            self._put(prefix_id, recurrent_states(cache), size)

    def segment(self, position: int, prefix_ids: Sequence[int], most: int) -> tuple[KVSlices, int] | None:
        """Keys and values from a position on, at most up to another, as far as they are those of a sequence with
        these prefix ids: views, and up to which position. None where nothing is kept of the first."""
        segment = next(
            (key for key in self._all if isinstance(key, KVSegment) and key.known(position, prefix_ids)), None
        )
        if segment is None:
            return None
        self._all.move_to_end(segment)
        last = position + 1
        while last < most and segment.known(last, prefix_ids):
            last += 1
        inner = slice(position - segment.first, last - segment.first)
        return {
            i: (keys[..., inner, :], values[..., inner, :]) for i, (keys, values) in segment.kv_slices.items()
        }, last

    def state(self, n: int, prefix_ids: Sequence[int]) -> tuple[int, RecurrentStates] | None:
        """The newest state that is kept of the first n tokens: after how many of them, and it."""
        for position in range(min(n, len(prefix_ids)), 0, -1):
            prefix_id = prefix_ids[position - 1]
            if found := self._all.get(prefix_id):
                self._all.move_to_end(prefix_id)
                assert not isinstance(found[0], KVSegment)
                return position, found[0]
        return None

    def release(self, n: int, prefix_ids: Sequence[int]) -> None:
        """Drop the segments that lie whole in the first n tokens of a sequence with these prefix ids: its cache has
        them now."""
        for key in [key for key in self._all if isinstance(key, KVSegment)]:
            last = key.first + len(key.prefix_ids)
            if last <= n and key.prefix_ids == tuple(prefix_ids[key.first : last]):
                self._remove(key)

    def drop(self, prefix_ids: set[int]) -> None:
        """All that does not belong to one of the tokens with these prefix ids."""
        for key in list(self._all):
            if not isinstance(key, KVSegment):
                if key not in prefix_ids:
                    self._remove(key)
                continue
            n = sum(
                prefix_id in prefix_ids for prefix_id in key.prefix_ids
            )  # the first of them: what follows one has others too
            if n < len(key.prefix_ids):
                self._remove(key)
                first = {i: (keys[..., :n, :], values[..., :n, :]) for i, (keys, values) in key.kv_slices.items()}
                self.put_segment(key.first, key.prefix_ids[:n], first)

    def _put(self, key: int | KVSegment, kept: KVSegment | RecurrentStates, size: int) -> None:
        self._all[key] = kept, size
        self.bytes += size

    def _remove(self, key: int | KVSegment) -> None:
        self.bytes -= self._all.pop(key)[1]

    def _make_room(self, size: int) -> bool:
        if size > self.bound:
            return False
        while self.bytes + size > self.bound:
            self._remove(next(iter(self._all)))
        return True
