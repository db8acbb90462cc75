"""The standard streams, made fit for text from elsewhere and for whatever they lead to.

What a terminal would obey is written out before it gets there: on stderr always, on stdout where that is a terminal;
a file or a pipe gets every byte. A descriptor that the caller closed stays taken, so that no file of ours gets its
number. Where stdout cannot be written the command ends in a sentence, or without a word behind a pipe that nobody
reads any more; what stderr cannot take is lost, since there is nobody left to be told.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from tui_entropy.core.errors import UserError
from tui_entropy.core.escape import visible

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_STDIN_BYTES = 2**26
"""Bytes of a text that is read from stdin; no model reads as much."""


MAX_LINE_CHARS = 2000
"""Characters of a line that is said to a person; of a longer one the middle is left out."""


class PipeClosed(Exception):
    """Nobody reads stdout any more."""


class _Stdout(io.FileIO):
    """Descriptor 1. Once it has failed it takes everything and keeps nothing."""

    failed = False

    def write(self, data: ReadableBuffer) -> int:
        if self.failed:
            return memoryview(data).nbytes
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            self.failed = True
            raise PipeClosed from None
        except OSError as refused:
            self.failed = True
            raise UserError(f"stdout cannot be written ({refused.strerror}): lead it elsewhere") from refused


class _Stderr(io.FileIO):
    """Descriptor 2."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


class SafeText(io.TextIOWrapper):
    """A text stream to a person, in the encoding of the locale. What that does not have is written as ASCII."""

    def __init__(self, file: Any, encoding: str, errors: str, line_buffering: bool) -> None:
        kind = codecs.lookup(encoding).name
        self._ascii = not kind.startswith("utf")
        # click puts a stream of its own over the bytes of one that calls itself ASCII.
        super().__init__(file, "iso-8859-1" if kind == "ascii" else encoding, errors, line_buffering=line_buffering)

    def write(self, text: str) -> int:
        super().write(visible(text, self._ascii))
        return len(text)

    def control(self, sequence: str) -> None:
        """Send what the terminal is meant to obey."""
        super().write(sequence)


class Narration(SafeText):
    """stderr: what is said there quotes names and values of any length, and stays a sentence."""

    def write(self, text: str) -> int:
        super().write("\n".join(map(_shorten, text.split("\n"))) if len(text) > MAX_LINE_CHARS else text)
        return len(text)


def guard() -> None:
    """Put streams of this kind in the place of Python's own. Textual keeps to the latter."""
    for descriptor in range(3):
        _keep_taken(descriptor)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    out, err = (io.BufferedWriter(kind(n, "wb", closefd=False)) for n, kind in ((1, _Stdout), (2, _Stderr)))
    if out.isatty():
        sys.stdout = SafeText(out, _encoding(sys.stdout), "backslashreplace", line_buffering=True)
    else:
        sys.stdout = io.TextIOWrapper(out, "utf-8", "surrogateescape")
    sys.stderr = Narration(err, _encoding(sys.stderr), "backslashreplace", line_buffering=True)


def control(sequence: str) -> None:
    """Send to stderr what a terminal there is meant to obey."""
    getattr(sys.stderr, "control", sys.stderr.write)(sequence)


def say(sentence: str) -> None:
    """Tell a person on stderr."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def put_drawn(text: str) -> None:
    """Write what is safe already, and styled with control sequences of ours, to stdout."""
    getattr(sys.stdout, "control", sys.stdout.write)(text)


def put(data: bytes) -> None:
    """Write text in UTF-8 to stdout: safe for a terminal, every byte for a file or a pipe."""
    if sys.stdout.isatty():
        sys.stdout.write(data.decode("utf-8", "surrogateescape"))
    else:
        sys.stdout.buffer.write(data)


def read_text() -> str:
    """All of stdin. Raises UserError for what is no text, or too much of it."""
    try:
        data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
        if len(data) > MAX_STDIN_BYTES:
            raise UserError(f"stdin holds more than {MAX_STDIN_BYTES >> 20} MiB: give a text that a model can read")
        return io.StringIO(data.decode(), newline=None).read()
    except UnicodeDecodeError as odd:
        raise UserError(f"stdin is no UTF-8 (byte {odd.start + 1} is 0x{data[odd.start]:02x}): convert it") from None
    except OSError as refused:
        raise UserError(f"stdin cannot be read ({refused.strerror}): give the text on it") from refused


def _shorten(line: str) -> str:
    if len(line) <= MAX_LINE_CHARS:
        return line
    return f"{line[: MAX_LINE_CHARS * 2 // 3]} [...] {line[-MAX_LINE_CHARS // 4 :]}"


def _keep_taken(descriptor: int) -> None:
    """Open a descriptor that is closed, so that its use fails, as it did, and no file of ours takes its place."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDONLY if descriptor else os.O_WRONLY), True)


def _encoding(stream: Any) -> str:
    return stream.encoding if stream is not None else "utf-8"
