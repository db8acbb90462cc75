"""PassThrough: each request to another server and its answer back, bytes as they come; then the engine is told."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from functools import partial

import httpx2
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from tui_entropy.openai_api.app import LOCAL_NAMES, failed
from tui_entropy.openai_api.errors import ApiError
from tui_entropy.openai_api.event_stream import unless_gone
from tui_entropy.records.bounds import MAX_RELAYED_BYTES
from tui_entropy.records.commands import ANSWER_ENDED, Relayed
from tui_entropy.servers.http.address import base_of, is_loopback

Headers = list[tuple[bytes, bytes]]
CONNECT_S = 10.0
MAX_BODY_BYTES = 64 * 2**20
OF_ONE_CONNECTION = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip
"""Headers that are not passed on (RFC 9110, 7.6.1)."""


class PassThrough:
    """To one server.

    url: as clients of it are given it, with or without '/v1'. tell: the engine is told of what passed. host: the
    address that is listened at. log: gets a line for each request.
    """

    def __init__(
        self, url: str, tell: Callable[[Relayed], object], host: str, log: Callable[[str], object] = lambda _: None
    ) -> None:
        self.url, self._tell, self._host, self._log = base_of(url, "--proxy"), tell, host, log
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=32),
            trust_env=not is_loopback(httpx2.URL(self.url).host),
        )
        for name in list(self._client.headers):  # nothing is added to what an application says
            del self._client.headers[name]

    async def close(self) -> None:
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = False

        async def put(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        tell: Callable[..., None] = lambda **_: None  # noqa: E731
        ended, is_broken = "the application hung up", False
        try:
            self._admit(scope)
            body = await _body(receive)
            if scope["method"] == "POST":
                tell = partial(self._said, f"proxied-{secrets.token_hex(8)}")
                tell(route=scope["path"] or "/", body=body[:MAX_RELAYED_BYTES])
            await unless_gone(self._pass(scope, body, put, tell), receive)
            ended = ANSWER_ENDED
        except ApiError as mistake:
            ended, is_broken = mistake.sentence, True
            await failed(mistake)(scope, receive, send)
        except httpx2.HTTPError as broken:
            what = "broke off" if began else "could not be reached"
            ended, is_broken = f"{self.url} {what}: {broken or type(broken).__name__}", True
            if began:
                raise  # the connection is closed in the midst, as that of the server was
            await failed(ApiError(502, ended))(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            tell(ended=ended, broken=is_broken)

    def _admit(self, scope: Scope) -> None:
        """Raises ApiError for a page that a browser was led here by under another name."""
        name = _header(scope["headers"], b"host")
        if httpx2.URL(f"http://{name}").host not in (*LOCAL_NAMES, self._host):
            raise ApiError(403, "this proxy answers only to the names of this machine")

    async def _pass(self, scope: Scope, body: bytes, send: Send, tell: Callable[..., None]) -> None:
        query = scope["query_string"]
        target = self.url + scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        request = self._client.build_request(
            scope["method"], f"{target}?{query.decode('latin-1')}" if query else target,
            headers=_passed_on(scope["headers"], b"host", b"content-length"), content=body or None,
        )  # fmt: skip
        if not body and scope["method"] != "POST":
            request.headers.pop("content-length", None)
        answer = await self._client.send(request, stream=True)
        try:
            headers = _passed_on(answer.headers.raw)
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            kind, encoding = (answer.headers.get(name, "") for name in ("content-type", "content-encoding"))
            tell(status=answer.status_code, content_type=kind[:1000], encoding=encoding[:100])
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                tell(data=piece)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            self._log(f"{scope['method']} {scope['path']} · {answer.status_code}")
        finally:
            await answer.aclose()

    def _said(self, request: str, data: bytes = b"", **part: object) -> None:
        for first in range(0, max(len(data), 1), MAX_RELAYED_BYTES):
            piece = data[first : first + MAX_RELAYED_BYTES]
            self._tell(Relayed(request, data=piece, at=time.monotonic(), **part))  # type: ignore[arg-type]


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")


def _passed_on(headers: Iterable[tuple[bytes, bytes]], *others: bytes) -> Headers:
    """Without those of one connection, which a `Connection` header may name more of."""
    given = list(headers)
    named = b",".join(value.lower() for key, value in given if key.lower() == b"connection").split(b",")
    gone = OF_ONE_CONNECTION | {name.strip() for name in named} | set(others)
    return [(key, value) for key, value in given if key.lower() not in gone]


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
        if not message.get("more_body"):
            return bytes(body)
