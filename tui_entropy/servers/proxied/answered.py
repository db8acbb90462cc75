"""AnswerReader: the chunks of an answer, from the bytes that passed. What has no known shape is text without more."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

from tui_entropy.servers.streams.chunks import NoChunk, chunk_of, chunk_of_object, error_text
from tui_entropy.servers.streams.sse import event_data
from tui_entropy.servers.streams.told_token import Chunk

ENDS_OF_EVENT = b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"
MAX_HELD_BYTES = 32 * 2**20
"""Of an event or an answer that has not ended; of what is larger nothing is read."""
MOST_SHOWN_CHARS = 2**16
SHAPES = ("choices", "meta_info", "content", "completion_probabilities", "error")
"""An object with one of these has a shape that is known."""
WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 47}
"""Content encoding -> what zlib is told."""


class AnswerReader:
    def __init__(self, status: int, content_type: str, encoding: str, n_answers: int) -> None:
        """n_answers: how many are asked for; of several only the first is read."""
        self._status, self._n_answers = status, n_answers
        self._streams = content_type.partition(";")[0].strip().lower() == "text/event-stream" and status < 400
        encoding = encoding.strip().lower()
        self._unread = f"an answer in encoding {encoding}" if encoding not in ("", "identity", *WINDOW) else ""
        self._packed = zlib.decompressobj(WINDOW[encoding]) if encoding in WINDOW else None
        self._held = bytearray()
        self._is_known = self._is_done = False
        """Whether anything came in a shape that is known, and whether [DONE] did."""

    @property
    def lacks_its_end(self) -> bool:
        """A stream whose shape is known, without the [DONE] behind it."""
        return self._streams and self._is_known and not self._is_done

    def take(self, data: bytes) -> Iterator[Chunk]:
        """What the next bytes complete."""
        if self._unread:
            return
        if self._packed is not None:
            try:
                data = self._packed.decompress(data, MAX_HELD_BYTES)
            except zlib.error:
                self._unread = "an answer whose encoding is broken"
                return
        begin = max(len(self._held) - max(map(len, ENDS_OF_EVENT)) + 1, 0)
        self._held += data
        if len(self._held) > MAX_HELD_BYTES:
            self._unread = "an answer that is too large to be shown"
            self._held.clear()
        elif self._streams:
            found = ((self._held.rfind(each, begin), len(each)) for each in ENDS_OF_EVENT)
            if end := max((at + size for at, size in found if at >= 0), default=0):
                whole = bytes(self._held[:end])
                del self._held[:end]
                yield from self._events(whole)

    def finish(self) -> Iterator[Chunk]:
        """What is there at the end."""
        held, self._held = bytes(self._held), bytearray()
        if self._unread:
            yield Chunk(text=f"[{self._unread}]")
        elif self._streams:
            yield from self._events(held, are_whole=False)
        elif self._status >= 400:
            yield Chunk(error=f"the server refused with {self._status}: {_said(held)}")
        elif held:
            yield self._read(held)

    def _events(self, held: bytes, are_whole: bool = True) -> Iterator[Chunk]:
        for data in event_data([held]):
            chunk = self._read(data, are_whole)
            self._is_done |= chunk.is_done
            yield chunk

    def _read(self, data: bytes, is_whole: bool = True) -> Chunk:
        found = _object(data)
        if found is None:
            try:
                return chunk_of(data)
            except NoChunk:
                if not is_whole and data.startswith(b"{"):
                    return Chunk(error="the stream broke off in the midst of an event")
                return Chunk(text=data.decode("utf-8", "replace")[:MOST_SHOWN_CHARS])
        if not any(name in found for name in SHAPES):
            return Chunk(text=data.decode("utf-8", "replace")[:MOST_SHOWN_CHARS] + "\n")
        self._is_known = True
        if self._n_answers > 1 and isinstance(choices := found.get("choices"), list) and choices:
            first = [one for one in choices if isinstance(one, dict) and one.get("index", 0) == 0]
            if not first:
                return Chunk()
            found = {**found, "choices": first}
        return chunk_of_object(found)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _said(data: bytes) -> str:
    found = _object(data)
    if found is None:
        return " ".join(data[:300].decode("utf-8", "replace").split())
    return error_text(found.get("error") or found.get("detail") or found)[:300]
