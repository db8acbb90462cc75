"""The endpoint while it is open: from a socket that listens to the signal that ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.openai_api.address import Address
from tui_entropy.openai_api.errors import ApiError
from tui_entropy.records.sampling import Knobs

GRACE_S = 1
"""Seconds for answers that are not finished when it ends."""


def check() -> None:
    """Raises UserError where what it is made of is not installed."""
    try:
        import starlette
        import uvicorn  # noqa: F401

        del starlette
    except ImportError as missing:
        raise UserError(
            f"--api needs {missing.name}, which is not installed: `pip install 'tui-entropy[api]'` brings it"
        ) from None


def serve(
    engine: Path,
    listening: socket.socket,
    where: Address,
    key: str | None,
    knobs: Knobs,
    max_tokens: int,
    tell: Callable[[str], object],
) -> bool:
    """Answer requests by an engine until a signal comes. knobs, max_tokens: for what a request leaves unsaid. tell:
    gets a line for each request. Returns whether the engine has ended with it. Raises UserError where the engine is
    gone first."""
    return asyncio.run(_serve(engine, listening, where, key, knobs, max_tokens, tell))


async def _serve(
    socket_path: Path,
    listening: socket.socket,
    where: Address,
    key: str | None,
    knobs: Knobs,
    max_tokens: int,
    tell: Callable[[str], object],
) -> bool:
    import uvicorn

    from tui_entropy.openai_api.app import Endpoint
    from tui_entropy.openai_api.body import Usual
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
    usual = Usual(knobs, max_tokens, ready.card.vocab)
    endpoint = Endpoint(engine, ready, usual, key, where.host, tell)
    server = Server(
        uvicorn.Config(
            endpoint.app, http="h11", ws="none", loop="asyncio", lifespan="off", log_level="error", access_log=False,
            server_header=False, timeout_graceful_shutdown=GRACE_S,
        )
    )  # fmt: skip
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, ended.set)
    serving = asyncio.create_task(server.serve([listening]))
    waiting = [asyncio.create_task(each.wait()) for each in (ended, engine.gone)]
    await asyncio.wait((serving, *waiting), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    for task in waiting:
        task.cancel()
    if engine.lost:
        raise UserError(engine.lost)
    return engine.close()
