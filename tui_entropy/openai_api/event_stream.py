"""Server-sent events, and answers that end when nobody is there any more who could read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Self, TypeVar

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tui_entropy.openai_api.errors import ApiError

KEEP_ALIVE_S = 15.0
"""Seconds without a chunk, as while a person holds the text, after which a comment keeps the connection open."""
COMMENT, DONE = b": the text waits\n\n", b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
Chunks = AsyncGenerator[Mapping[str, Any], None]
Result = TypeVar("Result")


def framed(chunk: Mapping[str, Any]) -> bytes:
    """JSON has no line breaks of its own, so that one data line holds it."""
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


async def unless_gone(work: Coroutine[Any, Any, Result], receive: Receive) -> Result:
    """The result of some work, which is given up once the client hangs up. Raises ClientDisconnect then."""
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, gone):
            task.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A stream of chunks that has begun."""

    def __init__(self, first: Mapping[str, Any], chunks: Chunks, headers: Mapping[str, str]) -> None:
        super().__init__(None, 200, {**HEADERS, **headers}, "text/event-stream")
        del self.headers["content-length"]
        self._first, self._chunks = first, chunks

    @classmethod
    async def begun(cls, chunks: Chunks, headers: Mapping[str, str], receive: Receive) -> Self:
        """Once there is a first chunk. What goes wrong before is raised, and has a status of its own."""
        return cls(await unless_gone(_first(chunks), receive), chunks, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with suppress(ClientDisconnect):
            await unless_gone(self._send(send), receive)

    async def _send(self, send: Send) -> None:
        async def put(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        await put(framed(self._first))
        try:
            async for chunk in _kept_alive(self._chunks):
                await put(COMMENT if chunk is None else framed(chunk))
        except ApiError as mistake:
            await put(framed(mistake.body))
        finally:
            await self._chunks.aclose()
        await put(DONE, more=False)


async def _first(chunks: Chunks) -> Mapping[str, Any]:
    return await anext(chunks)


async def _kept_alive(chunks: Chunks) -> AsyncIterator[Mapping[str, Any] | None]:
    """The chunks, with None in between where one takes long."""
    while True:
        coming = asyncio.ensure_future(_first(chunks))
        try:
            while not (await asyncio.wait((coming,), timeout=KEEP_ALIVE_S))[0]:
                yield None
            yield coming.result()
        except StopAsyncIteration:
            return
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
