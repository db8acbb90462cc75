"""A connection like that of ssh, between a terminal and the program in it."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A connection like that of ssh: it takes in a window's worth at once and passes it on at its own pace."""

    rate: float = math.inf
    """Bytes per second towards the terminal."""
    round_trip: float = 0.0
    """Seconds."""
    window: int = 1 << 20
    """Bytes that are taken in before the program has to wait."""


PACKET = 1400


class Relay:
    """What is under way on a Link. All times are of time.perf_counter()."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: deque[bytes] = deque()
        self._flying: deque[tuple[float, bytes]] = deque()
        self._returning: deque[tuple[float, bytes]] = deque()
        self._free_at = 0.0
        self.held = 0
        """Bytes taken in and not passed on."""

    @property
    def full(self) -> bool:
        return self.held >= self._link.window

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._flying

    def take(self, data: bytes) -> None:
        self.held += len(data)
        self._waiting.extend(data[at : at + PACKET] for at in range(0, len(data), PACKET))

    def back(self, data: bytes) -> None:
        """Towards the program."""
        self._returning.append((time.perf_counter() + self._link.round_trip / 2, data))

    def arrived(self) -> bytes:
        """What has come to the terminal."""
        now, here = time.perf_counter(), []
        while self._waiting and self._free_at <= now:
            packet = self._waiting.popleft()
            self._free_at = max(self._free_at, now - 0.01) + len(packet) / self._link.rate
            self._flying.append((self._free_at + self._link.round_trip / 2, packet))
            self.held -= len(packet)
        while self._flying and self._flying[0][0] <= now:
            here.append(self._flying.popleft()[1])
        return b"".join(here)

    def returned(self) -> bytes:
        """What has come to the program."""
        now, here = time.perf_counter(), []
        while self._returning and self._returning[0][0] <= now:
            here.append(self._returning.popleft()[1])
        return b"".join(here)
