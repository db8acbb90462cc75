"""The endpoint of `serve --api`: options to an address that listens, before an engine is started for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.records.sampling import Knobs

Answering = Callable[[Path, Knobs, int, Callable[[str], object]], None]
"""Answers requests by the engine at a socket, under knobs and a limit of tokens for what a request leaves unsaid;
a line for each is told."""


def endpoint(api: str | None, key_env: str | None, no_key: bool) -> Answering | None:
    """What answers requests at an address, which is taken now; None where none is named. Raises UserError."""
    if api is None:
        if key_env is not None or no_key:
            raise UserError("--api-key-env and --no-api-key are for --api: give an address, such as --api 8000")
        return None
    from tui_entropy.openai_api import address, server

    server.check()
    wanted = address.address(api)
    key, is_new = address.key(wanted, key_env, no_key)
    listening = address.listen(wanted)
    where = address.Address(wanted.host, listening.getsockname()[1])

    def answer(engine: Path, knobs: Knobs, max_tokens: int, tell: Callable[[str], object]) -> None:
        asked = f"key {key}" if is_new else "no key is asked for" if key is None else f"the key of {key_env}"
        tell(f"requests are answered at http://{where}/v1 · {asked} · ctrl-C ends it")
        ended = server.serve(engine, listening, where, key, knobs, max_tokens, tell)
        tell("the engine has ended" if ended else f"a screen looks on, so engine {engine.stem} stays")

    return answer
