"""The endpoint or proxy of `serve --api`: options to an address that listens, before an engine is started for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tui_entropy.core.errors import UserError
from tui_entropy.openai_api import address
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.servers.http.address import base_of

Tell = Callable[[str], object]
Answer = Callable[[Path, Knobs, int, Tell], None]
"""Answers requests with the engine at a socket, under knobs and a limit of tokens for what a request leaves unsaid;
a line for each is told."""


class Answering(NamedTuple):
    """What answers requests, and the base URL at which it listens."""

    endpoint: str
    answer: Answer


def answering(api: str | None, key_env: str | None, no_key: bool, proxy: str | None) -> Answering | None:
    """What answers requests at an address, which is taken now; None where none is named. proxy: the server that they
    pass to, None for the engine itself. Raises UserError."""
    if api is None and proxy is None:
        given = {"--api-key-env": key_env is not None, "--no-api-key": no_key}
        if wrong := next((name for name, is_there in given.items() if is_there), None):
            raise UserError(f"{wrong} is for --api: give an address to listen at, such as --api 8000")
        return None
    from tui_entropy.openai_api.server import check

    check("--api" if proxy is None else "--proxy")
    if proxy is not None:
        return _passing(api, key_env, no_key, proxy)
    assert api is not None
    return _by_the_engine(api, key_env, no_key)


def proxied(url: str, others: bool) -> ModelSpec:
    """What is loaded for a proxy to a server. others: whether something was given that a model is told. Raises
    UserError for that."""
    if others:
        raise UserError("--proxy only shows what passes: leave models, prompts, vectors, breakpoints and watches out")
    return ModelSpec(url, server=ServerSpec(url, proxied=True))


def listen_for(api: str | None) -> tuple[socket.socket, address.Address]:
    """The listening end of a proxy, and where it is. Raises UserError."""
    wanted = address.Address(address.LOOPBACK, 0) if api is None else address.address(api)
    if not wanted.is_loopback:
        raise UserError(f"--api {api} with --proxy: others on the network could use it, so name no host or 127.0.0.1")
    listening = address.listen_usual() if api is None else address.listen(wanted)
    return listening, address.Address(wanted.host, listening.getsockname()[1])


def proxy_beside(api: str | None, url: str) -> tuple[str, tuple[str, ...]]:
    """The base URL of a proxy to a server beside the engine of a screen, and the program that is both. Raises
    UserError."""
    from tui_entropy.openai_api.proxy import beside
    from tui_entropy.openai_api.server import check
    from tui_entropy.transport import discovery

    check("--proxy")
    listening, where = listen_for(api)
    listening.close()  # it is listened at there, once it is known that it can be
    return f"http://{where}/v1", beside.command(where, base_of(url, "--proxy"), discovery.command())


def _by_the_engine(api: str, key_env: str | None, no_key: bool) -> Answering:
    wanted = address.address(api)
    key, is_new = address.key(wanted, key_env, no_key)
    listening = address.listen(wanted)
    where = address.Address(wanted.host, listening.getsockname()[1])

    def answer(engine: Path, knobs: Knobs, max_tokens: int, tell: Tell) -> None:
        from tui_entropy.openai_api.body import Usual
        from tui_entropy.openai_api.server import Answers, serve

        asked = f"key {key}" if is_new else "no key is asked for" if key is None else f"the key of {key_env}"
        tell(f"requests are answered at http://{where}/v1 · {asked} · ctrl-C ends it")
        usual = Usual(knobs, max_tokens, vocab=0)
        _tell_end(serve(engine, listening, Answers(usual, key, where.host, tell), tell), engine, tell)

    return Answering(f"http://{where}/v1", answer)


def _passing(api: str | None, key_env: str | None, no_key: bool, proxy: str) -> Answering:
    if key_env is not None or no_key:
        raise UserError("--proxy passes keys on and asks for none: leave --api-key-env and --no-api-key out")
    base = base_of(proxy, "--proxy")
    listening, where = listen_for(api)

    def answer(engine: Path, knobs: Knobs, max_tokens: int, tell: Tell) -> None:
        from tui_entropy.openai_api.server import Passes, serve

        tell(f"requests to http://{where}/v1 pass to {base}/v1 · ctrl-C ends it")
        _tell_end(serve(engine, listening, Passes(base, where.host, tell), tell), engine, tell)

    return Answering(f"http://{where}/v1", answer)


def _tell_end(has_ended: bool, engine: Path, tell: Tell) -> None:
    tell("the engine has ended" if has_ended else f"a screen looks on, so engine {engine.stem} stays")
