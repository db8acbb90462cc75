"""Events and commands over a local socket: length-prefixed msgpack of typed records, never pickle."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections import deque
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from tui_entropy.errors import UserError
from tui_entropy.records import Command, Event

LENGTH = struct.Struct("<I")
LARGEST = 64 * 2**20
"""Bytes of one message; a longer one is not ours."""

In = TypeVar("In")
Out = TypeVar("Out")


class LinkClosed(Exception):
    """The other side is gone."""


class Connection(Generic[In, Out]):
    """One end of a link. Never blocks in `send`; `receive` waits as long as it is told to."""

    def __init__(self, peer: socket.socket, incoming: object) -> None:
        peer.setblocking(False)
        self.socket = peer
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._unread = bytearray()
        self._unsent: deque[memoryview] = deque()
        """Messages, of the first what is left of it."""
        self._begun = False
        """Whether the other side has a part of the first."""
        self.backlog = 0
        """Bytes that the other side has not taken yet."""
        self._hung_up = False

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, message: Out) -> None:
        """Queue a message and hand over as much as the socket takes now. Raises LinkClosed."""
        body = self._encoder.encode(message)
        self._unsent.append(memoryview(LENGTH.pack(len(body)) + body))
        self.backlog += LENGTH.size + len(body)
        self.flush()

    def last_word(self, message: Out) -> None:
        """Give up on every message that the other side has no part of yet, and say this one. Raises LinkClosed."""
        while len(self._unsent) > self._begun:
            self.backlog -= len(self._unsent.pop())
        self.send(message)

    def flush(self) -> None:
        """Hand over as much as the socket takes now. Raises LinkClosed."""
        try:
            while self._unsent:
                sent = self.socket.send(self._unsent[0])
                self.backlog -= sent
                self._unsent[0] = self._unsent[0][sent:]
                self._begun = bool(self._unsent[0])
                if not self._begun:
                    self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError as gone:
            raise LinkClosed from gone

    def receive(self, timeout: float | None = 0.0) -> list[In]:
        """Every whole message that has come, waiting up to `timeout` seconds (None: for ever) for the first.

        Also hands over what is still unsent. Raises LinkClosed when the other side has hung up.
        """
        wanting = [self.socket] if self._unsent else []
        readable, writable, _ = select.select([self.socket], wanting, [], timeout)
        if writable:
            self.flush()
        if readable:
            self._read()
        messages = self._messages()
        if self._hung_up and not messages:
            raise LinkClosed
        return messages

    def close(self) -> None:
        self.socket.close()

    def _read(self) -> None:
        """Take what has come. What a side said before it hung up is still delivered."""
        try:
            while chunk := self.socket.recv(1 << 16):
                self._unread += chunk
            self._hung_up = True
        except BlockingIOError:
            pass
        except OSError:
            self._hung_up = True

    def _messages(self) -> list[In]:
        messages: list[In] = []
        start = 0
        while len(self._unread) - start >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._unread, start)
            if size > LARGEST:
                raise LinkClosed(f"a message of {size} bytes, more than {LARGEST}")
            end = start + LENGTH.size + size
            if len(self._unread) < end:
                break
            try:
                messages.append(self._decoder.decode(memoryview(self._unread)[start + LENGTH.size : end]))
            except msgspec.DecodeError as garbled:
                raise LinkClosed(f"a message that cannot be read: {garbled}") from garbled
            start = end
        del self._unread[:start]
        return messages


EngineEnd = Connection[Command, Event]
ScreenEnd = Connection[Event, Command]


def private(folder: Path) -> None:
    """Raise UserError where others can open a folder."""
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(
            f"the folder {folder} can be opened by others; the engine's socket needs one of its own: "
            f"`chmod 700 {folder}` or set XDG_RUNTIME_DIR to a private folder"
        )


def listen(path: Path) -> socket.socket:
    """A listening socket that only this user can open. Raises UserError where that cannot be had.

    The file is there only once somebody listens, so one where nobody does is left over from an engine that died.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    private(path.parent)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unheard = path.with_suffix(".new")
    before = os.umask(0o177)
    try:
        server.bind(os.fspath(unheard))
    finally:
        os.umask(before)
    server.listen(16)
    unheard.rename(path)
    server.setblocking(False)
    return server


def accept(server: socket.socket) -> EngineEnd | None:
    """Whoever wants in; None if nobody does. A peer of another user is turned away."""
    try:
        end, _ = server.accept()
    except BlockingIOError:
        return None
    if peer(end)[1] in (os.getuid(), None):
        return Connection(end, Command)
    end.close()
    return None


def connect(path: Path, patience: float = 1.0) -> ScreenEnd:
    """Reach an engine. Raises OSError: ConnectionRefusedError where it is dead, TimeoutError where it is too busy."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end.settimeout(patience)
    try:
        end.connect(os.fspath(path))
    except OSError:
        end.close()
        raise
    return Connection(end, Event)


def peer(end: socket.socket) -> tuple[int | None, int | None]:
    """(process, user) at the other end; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None, None
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return int(pid), int(uid)
