"""Events and commands over a local socket: length-prefixed msgpack of typed records, never pickle."""

from __future__ import annotations

import os
import select
import socket
import struct
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
        self._unsent = bytearray()
        self._hung_up = False

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def backlog(self) -> int:
        """Bytes that the other side has not taken yet."""
        return len(self._unsent)

    def send(self, message: Out) -> None:
        """Queue a message and hand over as much as the socket takes now. Raises LinkClosed."""
        body = self._encoder.encode(message)
        self._unsent += LENGTH.pack(len(body))
        self._unsent += body
        self.flush()

    def flush(self) -> None:
        try:
            while self._unsent:
                sent = self.socket.send(self._unsent)
                del self._unsent[:sent]
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
            while chunk := self.socket.recv(1 << 18):
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


def listen(path: Path) -> socket.socket:
    """A listening socket that only this user can open. Raises UserError where that cannot be had."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = path.parent.stat()
    if folder.st_uid != os.getuid() or folder.st_mode & 0o077:
        raise UserError(
            f"the folder {path.parent} can be opened by others; the engine's socket needs one of its own: "
            f"`chmod 700 {path.parent}` or set XDG_RUNTIME_DIR to a private folder"
        )
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        server.bind(os.fspath(path))
    finally:
        os.umask(before)
    server.listen(1)
    return server


def accept(server: socket.socket, patience: float) -> EngineEnd:
    """Wait for a screen, `patience` seconds at most (then TimeoutError). A peer of another user is turned away."""
    server.settimeout(patience)
    while True:
        peer, _ = server.accept()
        if _peer_uid(peer) in (os.getuid(), None):
            return Connection(peer, Command)
        peer.close()


def connect(path: Path) -> ScreenEnd:
    """Reach an engine. Raises OSError while nobody listens there."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(os.fspath(path))
    except OSError:
        peer.close()
        raise
    return Connection(peer, Event)


def _peer_uid(peer: socket.socket) -> int | None:
    """None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)
