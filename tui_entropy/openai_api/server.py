"""The endpoint while it is open: from a socket that listens to the signal that ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tui_entropy.core.errors import UserError
from tui_entropy.openai_api.errors import ApiError
from tui_entropy.records.events import Ready

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tui_entropy.openai_api.body import Usual
    from tui_entropy.openai_api.engine import Engine

GRACE_S = 1
"""Seconds for answers that are not finished when it ends."""


def check(option: str) -> None:
    """Raises UserError where what it is made of is not installed. option: what asks for it."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as missing:
        raise UserError(
            f"{option} needs {missing.name}, which is not installed: `pip install 'tui-entropy[api]'` brings it"
        ) from None


class Service(Protocol):
    """What is answered with while it is open."""

    outlives: bool
    """It goes on when the engine is gone."""
    dated: bool
    """Its answers are given the date here."""

    def opened(self, engine: Engine, ready: Ready) -> ASGIApp:
        """The application that answers by an engine that is up."""

    async def close(self) -> None: ...


class Answers:
    """By the engine itself."""

    outlives, dated = False, True

    def __init__(self, usual: Usual, key: str | None, host: str, tell: Callable[[str], object]) -> None:
        """usual: what a request leaves unsaid. key, host, tell: as Endpoint takes them."""
        self._usual, self._key, self._host, self._tell = usual, key, host, tell

    def opened(self, engine: Engine, ready: Ready) -> ASGIApp:
        from tui_entropy.openai_api.app import Endpoint

        usual = replace(self._usual, vocab=ready.card.vocab)
        return Endpoint(engine, ready, usual, self._key, self._host, self._tell).app

    async def close(self) -> None:
        pass


class Passes:
    """By another server, and the engine is told of it."""

    dated = False

    def __init__(self, url: str, host: str, tell: Callable[[str], object], outlives: bool = True) -> None:
        """url, host, tell: as PassThrough takes them."""
        self.outlives, self._given = outlives, (url, host, tell)

    def opened(self, engine: Engine, ready: Ready) -> ASGIApp:
        from tui_entropy.openai_api.proxy.app import PassThrough

        url, host, tell = self._given
        self._app = PassThrough(url, engine.tell, host, tell)
        return self._app

    async def close(self) -> None:
        await self._app.close()


def serve(engine: Path, listening: socket.socket, service: Service, tell: Callable[[str], object]) -> bool:
    """Answer requests until a signal comes. Returns whether the engine has ended with it. Raises UserError where the
    engine is gone first, and nothing can be answered without."""
    return asyncio.run(_serve(engine, listening, service, tell))


async def _serve(
    socket_path: Path, listening: socket.socket, service: Service, tell: Callable[[str], object]
) -> bool:
    import uvicorn

    from tui_entropy.openai_api.engine import Engine

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """They are taken below, so that what comes behind this is done too."""
            yield

    engine = Engine(socket_path)
    try:
        ready = await engine.ready
    except ApiError as gone:
        raise UserError(gone.sentence) from None
    server = Server(
        uvicorn.Config(
            service.opened(engine, ready), http="h11", ws="none", loop="asyncio", lifespan="off",
            log_level="critical", access_log=False, server_header=False, date_header=service.dated,
            timeout_graceful_shutdown=GRACE_S,
        )
    )  # fmt: skip
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, ended.set)
    serving = asyncio.create_task(server.serve([listening]))
    waiting = [asyncio.create_task(each.wait()) for each in (ended, engine.gone)]
    await asyncio.wait((serving, *waiting), return_when=asyncio.FIRST_COMPLETED)
    if engine.lost and service.outlives:
        tell(f"{engine.lost}: requests still pass, and nobody sees them")
        await asyncio.wait((serving, waiting[0]), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    await service.close()
    for task in waiting:
        task.cancel()
    if engine.lost and not service.outlives:
        raise UserError(engine.lost)
    return engine.close()
