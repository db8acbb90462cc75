"""A cache with room: keys and values are written in place, not copied whole for every token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 256
"""Tokens of spare room; a long cache gets an eighth of its length, so that copies stay rare and memory in bounds."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """`keys` and `values` are views of the filled part of a larger block, so a part up to any position is one too."""

    _rooms: tuple[Tensor | None, Tensor | None] = (None, None)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (batch, n_kv_heads, n, d_head) of each; returns all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        key_room, value_room = self._rooms
        key_room, self.keys = appended(key_room, self.keys, key_states)
        value_room, self.values = appended(value_room, self.values, value_states)
        self._rooms = key_room, value_room
        return self.keys, self.values


class RoomyCache(DynamicCache):
    """Every layer keeps all its keys, whatever its window."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_class_to_replicate = RoomyLayer


def appended(room: Tensor | None, held: Tensor | None, new: Tensor) -> tuple[Tensor, Tensor]:
    """Put (batch, heads, n, width) behind what is held, in place where `held` begins the room and the rest fits.

    Returns the room, and the part of it that is filled. What was cropped away is written over.
    """
    n = held.shape[-2] if held is not None and held.numel() else 0
    total = n + new.shape[-2]
    fits = room is not None and room.shape[-2] >= total and room.shape[0] == new.shape[0]
    begins = not n or (room is not None and held is not None and held.data_ptr() == room.data_ptr())
    if room is None or not fits or not begins:
        room = new.new_empty((*new.shape[:-2], total + max(ROOM, total // 8), new.shape[-1]))
        if held is not None and n:
            room[..., :n, :] = held
    room[..., n:total, :] = new
    return room, room[..., :total, :]
