"""The routes of the endpoint, and who may use them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from msgspec.structs import replace as changed
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tui_entropy.core.crash_report import write_report
from tui_entropy.openai_api.answer import Answer
from tui_entropy.openai_api.body import Usual, Wanted, decoded, wanted
from tui_entropy.openai_api.engine import Engine, Text
from tui_entropy.openai_api.errors import ApiError, wrong
from tui_entropy.openai_api.event_stream import Chunks, EventStream, unless_gone
from tui_entropy.records.events import Ended, Ready

MAX_BODY_BYTES = 12 * 2**20
"""Less than the engine takes in one command."""
IGNORED = "x-ignored-fields"
MOST_NAMED = 20
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Endpoint:
    """An engine as OpenAI's servers look to their clients.

    usual: what holds for what a request leaves unsaid. key: what clients must have, None for nothing. host: the
    address that it listens at. tell: gets a line for each request.
    """

    def __init__(
        self, engine: Engine, ready: Ready, usual: Usual, key: str | None, host: str, tell: Callable[[str], object]
    ) -> None:
        self._engine, self._usual, self._key, self._host, self._tell = engine, usual, key, host, tell
        self._card = ready.card
        self._n_begun = 0
        self.app = Starlette(
            routes=[
                Route("/health", self._guarded(self._health)),
                Route("/v1/models", self._guarded(self._models)),
                Route("/v1/models/{name:path}", self._guarded(self._model)),
                Route("/v1/completions", self._guarded(self._completions), methods=["POST"]),
                Route("/v1/chat/completions", self._guarded(self._chat_completions), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _no_route},
        )

    # --- Who may -------------------------------------------------------------------------------------------------

    def _guarded(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                self._admit(request)
                return await handle(request)
            except ApiError as mistake:
                return failed(mistake)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as fault:
                return failed(ApiError(500, write_report(fault, "the endpoint")))

        return guarded

    def _admit(self, request: Request) -> None:
        """Raises ApiError for who has no key, and where none is needed for a page that a browser was led here by."""
        if request.url.path == "/health":
            return
        if self._key is None:
            if request.url.hostname not in (*LOCAL_NAMES, self._host):
                raise ApiError(403, "this endpoint asks for no key and answers only to the names of this machine")
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), self._key.encode()):
            raise ApiError(
                401, "the key is missing or wrong: send 'Authorization: Bearer KEY'", None, "invalid_api_key"
            )

    # --- What there is -------------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        if self._engine.lost:
            raise ApiError(503, self._engine.lost)
        return as_json({"status": "ok"})

    @property
    def _names(self) -> tuple[str, ...]:
        """By which clients may call the model; the first is its own."""
        standing = self._engine.standing
        asked = standing.model.name if standing and standing.model else ""
        return tuple(dict.fromkeys(name for name in (self._card.name, asked) if name))

    def _about_model(self) -> dict[str, Any]:
        began = int(self._engine.standing.began) if self._engine.standing else 0
        about = {"id": self._names[0], "object": "model", "created": began, "owned_by": "tui-entropy"}
        return about | {"max_model_len": self._card.context}

    async def _models(self, request: Request) -> Response:
        return as_json({"object": "list", "data": [self._about_model()]})

    async def _model(self, request: Request) -> Response:
        self._check_name(request.path_params["name"])
        return as_json(self._about_model())

    def _check_name(self, name: Any) -> None:
        if name is None or name in self._names:
            return
        if not isinstance(name, str):
            raise wrong("model", "wanted a name")
        here = " or ".join(self._names)
        raise ApiError(404, f"there is no model {name[:200]!r} here: it is {here}", "model", "model_not_found")

    # --- Answers -------------------------------------------------------------------------------------------------

    async def _completions(self, request: Request) -> Response:
        return await self._answer(request, chat=False)

    async def _chat_completions(self, request: Request) -> Response:
        return await self._answer(request, chat=True)

    async def _answer(self, request: Request, chat: bool) -> Response:
        fields = decoded(await _body(request))
        self._check_name(fields.get("model"))
        name = f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}"
        usual = self._usual
        if "seed" not in fields:  # another one each time, and the same ones in each session
            seed = (usual.knobs.seed + self._n_begun) % 2**63
            usual = replace(usual, knobs=changed(usual.knobs, seed=seed))
        asked = wanted(fields, chat, usual, name)
        self._n_begun += 1
        headers = _told(asked.ignored)
        if asked.stream:
            return await EventStream.begun(self._chunks(asked), headers, request.receive)
        whole = await unless_gone(self._whole(asked), request.receive)
        return as_json(whole, headers=headers)

    async def _whole(self, asked: Wanted) -> dict[str, Any]:
        async with self._engine.text(asked.write) as text:
            answer = Answer(asked, self._names[0], await text.begun())
            while not isinstance(event := await text.next(), Ended):
                answer.take(event)
        _, finish = answer.finish(event)
        self._log(text, answer, event)
        return answer.whole(finish)

    async def _chunks(self, asked: Wanted) -> Chunks:
        """The chunks of a stream. The first comes once the text has begun; until then ApiError is raised."""
        async with self._engine.text(asked.write) as text:
            answer = Answer(asked, self._names[0], await text.begun())
            yield answer.first_chunk()
            while not isinstance(event := await text.next(), Ended):
                said = answer.take(event)
                if said or asked.n_alternatives is not None or asked.token_ids:
                    yield answer.chunk(said)
        rest, finish = answer.finish(event)
        yield answer.last_chunk(rest, finish)
        if asked.include_usage:
            yield answer.usage_chunk()
        self._log(text, answer, event)

    def _log(self, text: Text, answer: Answer, ended: Ended) -> None:
        usage = answer.usage
        size = f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens"
        self._tell(f"run {text.started.run} · {text.write.request} · {size} · {ended.reason}")


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which no page of a browser may send elsewhere unasked
        raise ApiError(415, "the content type is not application/json: send the body as JSON with that header")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def as_json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def failed(mistake: ApiError) -> Response:
    headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(mistake.status)
    return as_json(mistake.body, mistake.status, headers)


def _told(ignored: tuple[str, ...]) -> dict[str, str]:
    """The header that names the fields that nothing was done about."""
    if not ignored:
        return {}
    names = [ascii(name[:64])[1:-1] for name in ignored[:MOST_NAMED]]
    return {IGNORED: ", ".join(names + ["..."] * (len(ignored) > MOST_NAMED))}


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return failed(ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}"))
