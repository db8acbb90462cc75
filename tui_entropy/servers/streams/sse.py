"""Server-sent events: the data of each, from bytes that come in any pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MAX_EVENT_BYTES = 64 << 20
"""Of one event. The whole vocabulary of a large model with its texts takes 30 MB."""


class EventTooLarge(ValueError):
    """An event that has no end within MAX_EVENT_BYTES."""


def event_data(pieces: Iterable[bytes], limit: int = MAX_EVENT_BYTES) -> Iterator[bytes]:
    """The data of each event, its lines joined, as the standard says (WHATWG HTML, 9.2.6): lines end with LF, CR or
    both; a line that begins with ':' is a comment; of the fields only `data` is looked at; an empty line ends an
    event. What stands after the last line end is an event too if the stream ends there, since some servers leave
    the empty line out.

    pieces: bytes as they come, cut anywhere. Raises EventTooLarge.
    """
    data: list[bytes] = []
    size = 0
    for line in _lines(pieces, limit):
        if not line:
            if data:
                yield b"\n".join(data)
            data, size = [], 0
        elif line.startswith(b"data"):
            name, _, value = line.partition(b":")
            if name == b"data":
                value = value[1:] if value.startswith(b" ") else value
                data.append(value)
                size += len(value)
                if size > limit:
                    raise EventTooLarge(f"an event of more than {limit} bytes")
    if data:
        yield b"\n".join(data)


def _lines(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Without their ends. A CR at the end of a piece ends its line at once; an LF that the next piece begins with
    belongs to it then."""
    rest: list[bytes] = []
    size, after_return = 0, False
    for piece in pieces:
        if not piece:
            continue
        was_return, after_return = after_return, piece.endswith(b"\r")
        if was_return and piece.startswith(b"\n"):
            piece = piece[1:]
        ended = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        *complete, last = ended
        for line in complete:
            yield b"".join((*rest, line))
            rest, size = [], 0
        if last:
            rest.append(last)
            size += len(last)
            if size > limit:
                raise EventTooLarge(f"a line of more than {limit} bytes")
    if rest:
        yield b"".join(rest)
