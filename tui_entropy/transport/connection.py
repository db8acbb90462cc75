"""Events and commands over a local socket: length-prefixed msgpack of typed records, never pickle.

What the other side says is not trusted: however it is made, it costs memory up to a bound, and either is a message,
or is rejected, or closes this one link.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import private
from tui_entropy.records.commands import Command
from tui_entropy.records.events import Event

LENGTH = struct.Struct("<I")
MAX_MESSAGE_BYTES = 64 * 2**20
"""Bytes of one message; a longer one is not ours."""
MAX_COMMAND_BYTES = 16 * 2**20
"""The same of what an engine is told."""
READ_BYTES = 8 * 2**20
"""Bytes that are taken in at a time, beyond what the message lacks that is coming."""
SMALL_READ_BYTES = 2**15
"""The same where many may speak and nobody is to be kept waiting for one of them."""
MAX_MESSAGES_PER_READ = 16
"""Messages that are taken in at a time there."""
LISTEN_BACKLOG = 128
"""Who may knock at an engine that is busy."""
CONNECT_RETRY_S = 0.02
"""Seconds between two knocks where too many do."""
MAX_WAIT_S = 3600.0
"""Seconds; what waits longer looks again."""

In = TypeVar("In")
Out = TypeVar("Out")

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(Command)


class LinkClosed(Exception):
    """The other side is gone, or said something that is no message: then it says what."""


class Rejected(msgspec.Struct, frozen=True):
    """In place of a message that could be read and is none of those that are understood, or holds a value that none
    may have."""

    sentence: str


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class Connection(Generic[In, Out]):
    """One end of a link. Never blocks in `send`; `receive` waits as long as it is told to."""

    def __init__(
        self,
        peer: socket.socket,
        incoming: object,
        largest: int = MAX_MESSAGE_BYTES,
        gulp: int = READ_BYTES,
        at_once: int | None = None,
        reject: Callable[[str], In] | None = None,
    ) -> None:
        """largest: bytes of a message from the other side. gulp, at_once: bytes and messages that one `receive` takes
        in. reject: what is received in place of a message that is none of `incoming`; without it that closes the
        link."""
        peer.setblocking(False)
        self.socket = peer
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(incoming)
        self._largest, self._gulp, self._at_once, self._reject = largest, gulp, at_once, reject
        self._unread = bytearray()
        self._unsent: deque[memoryview] = deque()
        """Messages, of the first what is left of it."""
        self._begun = False
        """Whether the other side has a part of the first."""
        self.backlog = 0
        """Bytes that the other side has not taken yet."""
        self.more = False
        """There are whole messages left that have come and were not received."""
        self._hung_up = False
        self._fault = ""
        """Why nothing is read any more."""

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def n_buffered_bytes(self) -> int:
        """Bytes of memory that it takes: of what came and is not whole, and of what was not taken."""
        return len(self._unread) + self.backlog

    def send(self, message: Out) -> None:
        """Queue a message and hand over as much as the socket takes now. Raises LinkClosed."""
        self.send_encoded(encode(message))

    def send_encoded(self, message: bytes) -> None:
        """Send a message that is encoded already, which several links may share."""
        self._unsent.append(memoryview(message))
        self.backlog += len(message)
        self.flush()

    def send_final(self, message: Out) -> None:
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
        """Whole messages that have come, waiting up to `timeout` seconds (None: for ever) for the first.

        Also hands over what is still unsent. Raises LinkClosed when the other side has hung up, or said something
        that is no message, once what it said before was received.
        """
        readable, writable = ready([self.socket], [self.socket] if self._unsent else [], 0 if self.more else timeout)
        if writable:
            self.flush()
        if readable:
            self._read()
        messages = self._messages()
        if self._hung_up and not messages:
            raise LinkClosed(self._fault)
        return messages

    def linger(self, seconds: float, until_hung_up: bool = False) -> None:
        """Wait, at most so long, until the other side has taken all that was sent, and where wanted until it hangs
        up, whatever it says meanwhile. Raises LinkClosed when it does."""
        end = time.monotonic() + seconds
        while (self.backlog or until_hung_up) and (left := end - time.monotonic()) > 0:
            self.receive(left)

    def close(self) -> None:
        self.socket.close()

    def _read(self) -> None:
        """Take what has come, up to a bound. What a side said before it hung up is still delivered."""
        room = self._gulp
        if len(self._unread) >= LENGTH.size:
            room += min(LENGTH.unpack_from(self._unread)[0], self._largest)
        try:
            while len(self._unread) < room:
                if not (chunk := self.socket.recv(min(1 << 16, room - len(self._unread)))):
                    self._hung_up = True
                    break
                self._unread += chunk
        except BlockingIOError:
            pass
        except OSError:
            self._hung_up = True

    def _messages(self) -> list[In]:
        messages: list[In] = []
        start, self.more = 0, False
        while len(self._unread) - start >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._unread, start)
            if size > self._largest:
                return self._break_off(messages, f"a message of {size} bytes came, more than {self._largest}")
            end = start + LENGTH.size + size
            if len(self._unread) < end:
                break
            if self._at_once is not None and len(messages) >= self._at_once:
                self.more = True
                break
            try:
                messages.append(self._decoder.decode(memoryview(self._unread)[start + LENGTH.size : end]))
            except msgspec.ValidationError as wrong:
                if self._reject is None:
                    return self._break_off(messages, f"a message came that is not understood: {wrong}")
                messages.append(self._reject(str(wrong)))
            except Exception as garbled:  # no UTF-8, nested too deeply, ...: the decoder raises more than its own
                return self._break_off(messages, f"a message came that cannot be read: {garbled}")
            start = end
        del self._unread[:start]
        return messages

    def _break_off(self, messages: list[In], fault: str) -> list[In]:
        """Read nothing any more. The socket counts as readable from now on, so that this is noticed."""
        self._fault, self._hung_up, self._unread = fault, True, bytearray()
        with suppress(OSError):  # gone already
            self.socket.shutdown(socket.SHUT_RD)
        return messages


EngineEnd = Connection[Command | Rejected, Event]
ScreenEnd = Connection[Event, Command]


def encode(message: object) -> bytes:
    """A message as it is sent. Text that no UTF-8 can hold, such as half of a pair or an undecodable byte of a file's
    name, is sent with question marks there."""
    try:
        body = _encoder.encode(message)
    except UnicodeEncodeError:
        body = _encoder.encode(_encodable(msgspec.to_builtins(message, builtin_types=(bytes,))))
    return LENGTH.pack(len(body)) + body


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case dict():
            return {_encodable(key): _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return [_encodable(each) for each in value]
    return value


def encode_command(message: Command) -> bytes:
    """A command as it is sent. Raises UserError for one that no engine would take."""
    try:
        encoded = encode(message)
        _commands.decode(memoryview(encoded)[LENGTH.size :])
    except (OverflowError, msgspec.ValidationError) as error:
        raise UserError(f"no engine can be told this ({error}): give another value") from error
    if len(encoded) > MAX_COMMAND_BYTES:
        raise UserError(
            f"this has {len(encoded) / 2**20:.0f} MiB, and an engine is told at most {MAX_COMMAND_BYTES / 2**20:.0f} "
            "at a time: give a shorter text"
        )
    return encoded


def decode_command(message: bytes) -> Command:
    """The command in a message of `encode_command`. Raises UserError for what is none."""
    try:
        command: Command = _commands.decode(memoryview(message)[LENGTH.size :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"this is nothing that an engine can be told ({error})") from error
    return command


def ready(
    reading: Iterable[HasDescriptor], writing: Iterable[HasDescriptor], timeout: float | None
) -> tuple[set[int], set[int]]:
    """Descriptors that can be read, and those that can be written, as soon as one can; None waits for ever.

    One that the other side has closed is both. In place of select, which knows no descriptor above 1023.
    """
    masks: dict[int, int] = {}
    for mask, ends in ((select.POLLIN, reading), (select.POLLOUT, writing)):
        for end in ends:
            masks[end.fileno()] = masks.get(end.fileno(), 0) | mask
    poll = select.poll()
    for descriptor, mask in masks.items():
        poll.register(descriptor, mask)
    polled = poll.poll(None if timeout is None else min(max(timeout, 0), MAX_WAIT_S) * 1000)
    gone = select.POLLHUP | select.POLLERR | select.POLLNVAL
    return (
        {each for each, events in polled if events & (select.POLLIN | gone) and masks[each] & select.POLLIN},
        {each for each, events in polled if events & (select.POLLOUT | gone) and masks[each] & select.POLLOUT},
    )


def listen(path: Path) -> socket.socket:
    """A listening socket that only this user can open. Raises UserError where that cannot be had.

    The file is there only once somebody listens, so one where nobody does is left over from an engine that died.
    """
    private(path.parent)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unheard = path.with_suffix(".new")
    before = os.umask(0o177)
    try:
        server.bind(os.fspath(unheard))
        server.listen(LISTEN_BACKLOG)
        unheard.rename(path)
    except OSError as refused:
        server.close()
        raise UserError(
            f"no socket can be had at {path} ({refused}): set XDG_RUNTIME_DIR to a folder with a short name"
        ) from refused
    finally:
        os.umask(before)
    server.setblocking(False)
    return server


def accept(server: socket.socket) -> EngineEnd | None:
    """Whoever wants in; None if nobody does. A peer of another user is turned away. Raises OSError where no further
    descriptor can be had."""
    while True:
        try:
            end, _ = server.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        if peer(end)[1] in (os.getuid(), None):
            return Connection(end, Command, MAX_COMMAND_BYTES, SMALL_READ_BYTES, MAX_MESSAGES_PER_READ, Rejected)
        end.close()


def connect(path: Path, patience: float = 1.0) -> ScreenEnd:
    """Reach an engine. Raises OSError: ConnectionRefusedError where it is dead, TimeoutError where it is too busy."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    limit = time.monotonic() + patience
    while True:
        end.settimeout(max(patience, CONNECT_RETRY_S))
        try:
            end.connect(os.fspath(path))
            return Connection(end, Event)
        except BlockingIOError:  # more knock already than it lets wait
            if time.monotonic() >= limit:
                end.close()
                raise TimeoutError(f"{path} is too busy") from None
            time.sleep(CONNECT_RETRY_S)
        except OSError:
            end.close()
            raise


def peer(end: socket.socket) -> tuple[int | None, int | None]:
    """(process, user) at the other end; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None, None
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return int(pid), int(uid)
