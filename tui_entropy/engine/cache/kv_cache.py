"""A cache with room: keys and values are written in place, not copied whole for every token."""

from __future__ import annotations

import copy
import math
import mmap
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 256
"""Tokens of spare room; a long cache gets an eighth of its length, so that copies stay rare and memory in bounds."""


class PreallocatedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """`keys` and `values` are views of the filled part of a larger block, so a part up to any position is one too."""

    _rooms: tuple[Tensor | None, Tensor | None] = (None, None)

    def __init__(self, expected: int = 0) -> None:
        """expected: tokens that are known to come, for which there is room from the first on."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.expected = expected

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, rooms: tuple[Tensor | None, Tensor | None] = (None, None)) -> Self:
        """A layer that holds these, which begin the rooms where there are any."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values, layer._rooms = keys, values, rooms
        return layer

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (batch, n_kv_heads, n, d_head) of each; returns all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        key_room, value_room = self._rooms
        key_room, self.keys = append(key_room, self.keys, key_states, self.expected)
        value_room, self.values = append(value_room, self.values, value_states, self.expected)
        self._rooms = key_room, value_room
        return self.keys, self.values

    def batch_row(self, n: int) -> PreallocatedLayer:
        keys, values = self._held
        key_room, value_room = (None if room is None else room[n : n + 1] for room in self._rooms)
        return PreallocatedLayer.of(keys[n : n + 1], values[n : n + 1], (key_room, value_room))

    def repeat_prefix(self, n_tokens: int, rows: int) -> PreallocatedLayer:
        keys, values = (held[:1, :, :n_tokens].expand(rows, -1, -1, -1) for held in self._held)
        return PreallocatedLayer.of(keys, values)

    def concat_batch(self, other: PreallocatedLayer) -> PreallocatedLayer:
        pairs = zip(self._held, other._held, strict=True)
        (key_room, keys), (value_room, values) = (append(None, None, torch.cat(pair)) for pair in pairs)
        return PreallocatedLayer.of(keys, values, (key_room, value_room))

    @property
    def _held(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def room(self, n_columns: int, rows: int) -> tuple[Tensor, Tensor]:
        """The first columns of rooms for keys and for values, of at least as many; they begin with all that is held.
        What lies behind is finite."""
        keys, values = self._held
        rooms = []
        for room, held in zip(self._rooms, (keys, values), strict=True):
            if room is None or room.shape[-2] < n_columns or len(room) != rows or not _begins(room, held):
                room = _zeros(held, (*held.shape[:-2], n_columns, held.shape[-1]))
                room[..., : held.shape[-2], :] = held
            rooms.append(room)
        self._rooms = rooms[0], rooms[1]
        self.hold(keys.shape[-2])
        return rooms[0][..., :n_columns, :], rooms[1][..., :n_columns, :]

    def hold(self, n: int) -> None:
        """The first n columns of its rooms are filled."""
        key_room, value_room = self._rooms
        assert key_room is not None and value_room is not None
        self.keys, self.values = key_room[..., :n, :], value_room[..., :n, :]

    def first(self, n: int) -> PreallocatedLayer:
        """The same block, filled by its first n tokens only. What is appended to it is written over the others."""
        then = copy.copy(self)
        if self.keys is not None and self.values is not None:
            then.keys, then.values = self.keys[..., :n, :], self.values[..., :n, :]
        return then


class PreallocatedCache(DynamicCache):
    """Every layer keeps all its keys, whatever its window."""

    def __init__(self, expected: int = 0) -> None:
        """expected: tokens that are known to come."""
        super().__init__()
        self.layer_class_to_replicate = partial(PreallocatedLayer, expected)  # type: ignore[assignment]

    def batch_row(self, n: int) -> Self:
        """One of its rows (0-based) as a cache of its own, in the same memory. The rows may grow apart."""
        return self._made(layer.batch_row(n) for layer in self.rooms)

    def repeat_prefix(self, n_tokens: int, rows: int = 1) -> Self:
        """The first tokens of its first row, several times: copied only when the next token is written."""
        return self._made(layer.repeat_prefix(n_tokens, rows) for layer in self.rooms)

    def first(self, n: int) -> Self:
        """Its first n tokens in the same memory, to be written on over the others."""
        return self._made(layer.first(n) for layer in self.rooms)

    def concat_batch(self, other: PreallocatedCache) -> Self:
        """Its rows, and below them those of another one that holds as many tokens."""
        return self._made(mine.concat_batch(theirs) for mine, theirs in zip(self.rooms, other.rooms, strict=True))

    @property
    def rooms(self) -> list[PreallocatedLayer]:
        return [layer for layer in self.layers if isinstance(layer, PreallocatedLayer)]

    def _made(self, layers: Iterable[PreallocatedLayer]) -> Self:
        made = type(self)()
        made.layers = list(layers)
        return made


def append(room: Tensor | None, held: Tensor | None, new: Tensor, expected: int = 0) -> tuple[Tensor, Tensor]:
    """Put (batch, heads, n, width) behind what is held, in place where `held` begins the room and the rest fits.

    expected: tokens that a new room is made for at least. Returns the room, and the part of it that is filled. What
    was cropped away is written over.
    """
    n = held.shape[-2] if held is not None and held.numel() else 0
    total = n + new.shape[-2]
    fits = room is not None and room.shape[-2] >= total and room.shape[0] == new.shape[0]
    begins = not n or (room is not None and held is not None and _begins(room, held))
    if room is None or not fits or not begins:
        size = max(total + max(ROOM, total // 8), expected)
        room = _zeros(new, (*new.shape[:-2], size, new.shape[-1]))
        if held is not None and n:
            room[..., :n, :] = held
    room[..., n:total, :] = new
    return room, room[..., :total, :]


def _zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A room: of zeros, since a masked column counts for nothing only if it holds a number.

    On a CPU in pages of its own, which take no memory before they are filled and give it back when the room is left
    for a larger one; in the heap every room that was left would stay as a hole.
    """
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    try:
        pages = mmap.mmap(-1, math.prod(shape) * like.element_size())
    except OSError as refused:
        raise MemoryError(f"no memory for keys and values: {refused}") from refused
    return torch.frombuffer(pages, dtype=like.dtype).view(shape)


def _begins(room: Tensor, held: Tensor) -> bool:
    return held.data_ptr() == room.data_ptr()


KVSlices = Mapping[int, tuple[Tensor, Tensor]]
"""Index -> keys and values, each (batch, n_kv_heads, n, d_head), of every layer that keeps them by position."""
RecurrentStates = Mapping[int, Any]
"""Index -> a copy of each layer that does not keep its keys by position, and so cannot be shortened. Under BESIDE, of
a cache of a model's own kind: how many layers it had, and name -> value of what it keeps beside them."""
CACHE_ATTRIBUTES = -1
USUAL = frozenset(vars(DynamicCache()))
"""Attributes of the library's caches."""


def kv_slices(cache: Cache, first: int, last: int) -> KVSlices:
    """The keys and values of the tokens from `first` to before `last`: views, which a later token may write over."""
    return {
        index: (layer.keys[..., first:last, :], layer.values[..., first:last, :])
        for index, layer in enumerate(cache.layers)
        if isinstance(layer, PreallocatedLayer) and layer.keys is not None and layer.values is not None
    }


def recurrent_states(cache: Cache) -> RecurrentStates:
    """Copies of all that cannot be shortened, as it is now; none where all can."""
    known = {
        i: copy.deepcopy(layer) for i, layer in enumerate(cache.layers) if not isinstance(layer, PreallocatedLayer)
    }
    beside = {name: copy.deepcopy(value) for name, value in vars(cache).items() if name not in USUAL}
    return known | ({CACHE_ATTRIBUTES: (len(cache.layers), beside)} if beside else {})


def truncated(cache: Cache, n: int, known: RecurrentStates) -> Cache:
    """A cache of the first n tokens in the same memory. known: the states after that many, which are copied."""
    then = copy.copy(cache)
    then.layers = [
        layer.first(n) if isinstance(layer, PreallocatedLayer) else copy.deepcopy(known[index])
        for index, layer in enumerate(cache.layers)
    ]
    n_layers, beside = known.get(CACHE_ATTRIBUTES, (len(then.layers), {}))
    del then.layers[n_layers:]
    vars(then).update(copy.deepcopy(beside))
    return then


def with_segment(cache: Cache, n: int, more: KVSlices) -> Cache:
    """A cache of the first n tokens and these after them, in the same memory. Other layers are as they were."""
    then = copy.copy(cache)
    then.layers = [layer.first(n) if isinstance(layer, PreallocatedLayer) else layer for layer in cache.layers]
    for index, (keys, values) in more.items():
        then.update(keys, values, index)
    return then


def tensors(held: Any) -> Iterator[Tensor]:
    """All that a layer, a state, or a part of one holds."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, nn.Module | PreTrainedConfig):
        return  # of the model, not of the text
    elif isinstance(held, dict | list | tuple) or hasattr(held, "__dict__"):
        parts = held if isinstance(held, list | tuple) else (held if isinstance(held, dict) else vars(held)).values()
        for part in parts:
            yield from tensors(part)


def n_bytes(held: Iterable[Tensor]) -> int:
    """The bytes of the memory behind these tensors, each block counted once and whole."""
    blocks = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
    return sum(blocks.values())
