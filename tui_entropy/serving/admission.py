"""Who is let into an engine, and what all of them together may cost it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from socket import socket

from tui_entropy.transport.connection import EngineEnd, accept, ready

MAX_LINKS = 64
"""Links at a time, where the system allows so many descriptors."""
MIN_LINKS = 4
RESERVED_DESCRIPTORS = 32
"""Descriptors that the engine needs for itself: its record, its log, a model that it reads."""
DESCRIPTORS_PER_LINK = 4
"""Descriptors that a link takes at most: its own, and the record that is read for it."""
MAX_LINKS_POLLED = 128
"""Links that are looked at between two tokens."""
MAX_PENDING_BYTES = 96 * 2**20
"""Bytes that may be held for all links together: of messages that are not whole yet, or not taken yet."""
MAX_PENDING_QUESTIONS = 4
"""Questions of one link that may wait to be answered."""
MAX_PENDING_COMMANDS = 64
"""Commands of the one in control that may wait to be obeyed."""
MAX_UNREAD_BYTES = 8 * 2**20
"""Bytes that may wait for one that is heard; whoever does not read is not listened to."""


def most_links() -> int:
    """The most links that may be open at a time, with as many descriptors as this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MAX_LINKS
    return max(min((limit - RESERVED_DESCRIPTORS) // DESCRIPTORS_PER_LINK, MAX_LINKS), MIN_LINKS)


class Listener:
    """The listening end of an engine. However many knock, none of them waits for ever, and the engine never does."""

    def __init__(self, server: socket) -> None:
        self.server = server
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        """A descriptor to give up where there is no other, so that who knocks can be told off."""

    def fileno(self) -> int:
        return self.server.fileno()

    def admit(self, take: Callable[[EngineEnd], None], make_room: Callable[[], bool]) -> None:
        """Let in who knocks. make_room: closes a link, and says whether there was one to close."""
        for _ in range(MAX_LINKS_POLLED):
            if not ready([self.server], [], 0)[0]:  # without a descriptor to spare, accept does not say so
                return
            try:
                link = accept(self.server)
            except OSError:
                if not make_room():
                    self._turn_away()
                continue
            if link is not None:
                take(link)

    def _turn_away(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
        with suppress(OSError):
            self.server.accept()[0].close()
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = None

    def close(self) -> None:
        self.server.close()
        if self._spare is not None:
            os.close(self._spare)
