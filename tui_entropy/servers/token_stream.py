"""TokenStream: the tokens of one request, read on a thread of their own, so that commands are heard meanwhile."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Any, Protocol

from msgspec import Struct

from tui_entropy.core.errors import UserError
from tui_entropy.servers.kinds.kind import Kind, Request
from tui_entropy.servers.streams.alignment import Counts, TokenAligner
from tui_entropy.servers.streams.chunks import NoChunk
from tui_entropy.servers.streams.sse import EventTooLarge
from tui_entropy.servers.streams.told_token import ToldToken
from tui_entropy.servers.tokens import TokenNames

AHEAD = 256
"""Tokens that are read before they are wanted. Then the server is kept waiting."""


class Inside(Protocol):
    """What was measured in the pass that chose a token."""

    def fields(self, written: int | None, names: TokenNames) -> dict[str, Any]:
        """Of its step. written: the id of the token."""


ENDS = {"stop": "end of text", "eos": "end of text", "length": "token limit", "limit": "token limit"}
"""Why a stream ends in the server's word -> why the text does."""


class Arrival(Struct, frozen=True):
    """A token, and when it came."""

    token: ToldToken
    at: float
    """time.monotonic()"""
    inside: Inside | None = None
    """Numbers of the model's inside, where a server tells them."""


class StreamEnd(Struct, frozen=True):
    """No further token comes."""

    finish: str
    """Why, in the server's word; empty where it broke off."""
    error: str = ""
    """A sentence, where it did."""


def answered(
    server: Kind, request: Request, counts: Counts, opened: Callable[[Callable[[], None]], object] = lambda _: None
) -> Generator[tuple[list[ToldToken], str]]:
    """Of each event of an answer its tokens, and why the text ends there if it does. counts: hears what was not as it
    should be. opened: as HttpClient.stream takes it. Raises UserError, NoChunk and EventTooLarge."""
    aligner = TokenAligner(counts)
    with server.client.stream(*request, opened=opened) as pieces:
        for chunk in server.chunks(pieces):
            if chunk.error:
                raise UserError(f"the server said in the midst of its answer: {chunk.error}")
            yield server.recovered(aligner.take(chunk)), chunk.finish
            if chunk.is_done:
                return


class TokenStream:
    """It begins to read at once."""

    def __init__(self, server: Kind, request: Request) -> None:
        self.counts = Counts()
        self._server, self._request = server, request
        self._arrivals: queue.Queue[Arrival | StreamEnd] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self._break_off: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._read, daemon=True, name="token stream")
        self._thread.start()

    def next(self, patience: float) -> Arrival | StreamEnd | None:
        """None where nothing comes within so many seconds."""
        try:
            return self._arrivals.get(timeout=patience)
        except queue.Empty:
            return None

    @property
    def trouble(self) -> str:
        """What a person must know of the answer, in a sentence; empty for nothing."""
        return ""

    def close(self) -> None:
        """End the request; the server hears of it."""
        self._closed.set()
        self._break_off()
        with suppress(queue.Empty):
            while True:
                self._arrivals.get_nowait()

    def _read(self) -> None:
        finish, error = "", ""
        try:
            finish = self._tokens()
        except (UserError, NoChunk, EventTooLarge) as wrong:
            error = str(wrong)
        if not finish and not error:
            error = "the stream of the server ended before the text did"
        self._put(StreamEnd(finish, error))

    def _tokens(self) -> str:
        finish = ""
        with closing(answered(self._server, self._request, self.counts, self._opened)) as events:
            for tokens, word in events:
                for token in tokens:
                    if not self._put(Arrival(token, time.monotonic())):
                        return finish
                finish = word or finish
        return finish

    def _opened(self, break_off: Callable[[], None]) -> None:
        self._break_off = break_off
        if self._closed.is_set():
            break_off()

    def _put(self, arrival: Arrival | StreamEnd) -> bool:
        """False once nobody wants any."""
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._arrivals.put(arrival, timeout=0.1)
                return True
        return False
