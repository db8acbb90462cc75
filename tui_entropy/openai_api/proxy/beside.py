"""A proxy beside the engine of a screen: `python -m tui_entropy.openai_api.proxy.beside PLACE URL ENGINE SOCKET LOG`

It listens, leaves a process that passes requests on for as long as the engine is there, and becomes the engine.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.openai_api import address
from tui_entropy.transport import connection
from tui_entropy.transport.discovery import START_TIMEOUT_S

MODULE = "tui_entropy.openai_api.proxy.beside"
RETRY_S = 0.02
LAST_ONE_GOES_S = 3.0
"""For the proxy of an engine that this one takes the place of to leave its address."""


def command(where: address.Address, url: str, engine: Sequence[str]) -> tuple[str, ...]:
    """The program that is an engine with a proxy to a server at its side. engine: the program that is one alone."""
    return (sys.executable, "-m", MODULE, str(where), url, *engine)


def main(where: str, url: str, *engine: str) -> None:
    """engine: the program, the socket where it is going to listen, and its log."""
    try:
        listening = _listening(address.address(where))
    except UserError as mistake:
        sys.exit(str(mistake))
    own = os.getpid()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what is said there is said to the engine
        with suppress(UserError, KeyboardInterrupt):  # the engine is gone
            _pass_on(listening, url, Path(engine[-2]), own)
        os._exit(0)
    listening.close()
    os.execvp(engine[0], engine)


def _listening(where: address.Address) -> socket.socket:
    until = time.monotonic() + LAST_ONE_GOES_S
    while True:
        try:
            return address.listen(where)
        except UserError:
            if time.monotonic() > until:
                raise
            time.sleep(RETRY_S)


def _pass_on(listening: socket.socket, url: str, engine: Path, pid: int) -> None:
    """Until the engine is gone. Raises UserError then."""
    from tui_entropy.openai_api.server import Passes, serve

    until = time.monotonic() + START_TIMEOUT_S
    while os.getppid() == pid and time.monotonic() < until:
        with suppress(OSError):
            connection.connect(engine).close()
            break
        time.sleep(RETRY_S)
    passes = Passes(url, listening.getsockname()[0], lambda _: None, outlives=False)
    serve(engine, listening, passes, lambda _: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
