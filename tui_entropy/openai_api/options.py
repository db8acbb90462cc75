"""The endpoint or proxy of `serve --api`: options to an address that listens, before an engine is started for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.records.sampling import Knobs

Tell = Callable[[str], object]
Answering = Callable[[Path, Knobs, int, Tell], None]
"""Answers requests with the engine at a socket, under knobs and a limit of tokens for what a request leaves unsaid;
a line for each is told."""


def answering(api: str | None, key_env: str | None, no_key: bool, proxy: str | None) -> Answering | None:
    """What answers requests at an address, which is taken now; None where none is named. proxy: the server that they
    pass to, None for the engine itself. Raises UserError."""
    if api is None:
        given = {"--api-key-env": key_env is not None, "--no-api-key": no_key, "--proxy": proxy is not None}
        if wrong := next((name for name, is_there in given.items() if is_there), None):
            raise UserError(f"{wrong} is for --api: give an address to listen at, such as --api 8000")
        return None
    from tui_entropy.openai_api.server import check

    check("--api")
    return _by_the_engine(api, key_env, no_key) if proxy is None else _passing(api, key_env, no_key, proxy)


def _by_the_engine(api: str, key_env: str | None, no_key: bool) -> Answering:
    from tui_entropy.openai_api import address

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

    return answer


def _passing(api: str, key_env: str | None, no_key: bool, proxy: str) -> Answering:
    from tui_entropy.openai_api import address
    from tui_entropy.servers.http.address import base_of

    if key_env is not None or no_key:
        raise UserError("--proxy passes keys on and asks for none: leave --api-key-env and --no-api-key out")
    base, wanted = base_of(proxy, "--proxy"), address.address(api)
    if not wanted.is_loopback:
        raise UserError(f"--api {api} with --proxy: others on the network could use it, so name no host or 127.0.0.1")
    listening = address.listen(wanted)
    where = address.Address(wanted.host, listening.getsockname()[1])

    def answer(engine: Path, knobs: Knobs, max_tokens: int, tell: Tell) -> None:
        from tui_entropy.openai_api.server import Passes, serve

        tell(f"requests to http://{where}/v1 pass to {base}/v1 · ctrl-C ends it")
        _tell_end(serve(engine, listening, Passes(base, where.host, tell), tell), engine, tell)

    return answer


def _tell_end(has_ended: bool, engine: Path, tell: Tell) -> None:
    tell("the engine has ended" if has_ended else f"a screen looks on, so engine {engine.stem} stays")
