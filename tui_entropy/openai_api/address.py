"""Where an endpoint listens, and the key that it asks for."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass

from tui_entropy.core.errors import UserError
from tui_entropy.servers.http.address import is_loopback

LOOPBACK = "127.0.0.1"
BACKLOG = 128
USUAL_PORTS = range(8001, 8021)
"""Those above the one at which most servers of models listen."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    """0 for any that is free."""

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str) -> Address:
    """[HOST:]PORT, of this machine alone unless a host is named. Raises UserError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else LOOPBACK
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 2**16 and host):
        raise UserError(f"--api {text}: wanted [HOST:]PORT, such as 8000 or 127.0.0.1:8000")
    return Address(host, int(port))


def key(where: Address, env: str | None, none: bool) -> tuple[str | None, bool]:
    """The key that is asked for, None for none; and whether it was made here. env: the variable that holds it. none:
    whether nobody is asked. Raises UserError where the whole network could use the engine without one."""
    if none and env is not None:
        raise UserError("--no-api-key and --api-key-env: give one of them")
    if none:
        if not where.is_loopback:
            raise UserError(
                f"--no-api-key with --api {where}: others on the network could use this engine, so leave one of the "
                "two out"
            )
        return None, False
    if env is None:
        return f"tui-{secrets.token_urlsafe(24)}", True
    return key_in(env), False


def key_in(env: str) -> str:
    """The key that a variable of the environment holds. Raises UserError where it holds none."""
    given = os.environ.get(env, "")
    if not given.strip() or not (given.isascii() and given.isprintable()):
        raise UserError(f"--api-key-env {env}: that variable holds no key: set it to printable ASCII")
    return given


def listen_usual() -> socket.socket:
    """The listening end of a proxy to which no address is given: the first free port of the usual ones."""
    for port in USUAL_PORTS:
        with suppress(UserError):
            return listen(Address(LOOPBACK, port))
    return listen(Address(LOOPBACK, 0))


def listen(where: Address) -> socket.socket:
    """The listening end. Raises UserError where that address cannot be had."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)[0]
        # By its protocol asyncio knows that nothing may wait for more to be sent: else tokens come 40 ms late.
        end = socket.socket(family, kind, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as unknown:
        raise UserError(f"--api {where}: {unknown}") from None
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind(place)
        end.listen(BACKLOG)
    except OSError as refused:
        end.close()
        raise UserError(f"--api {where}: {refused.strerror or refused}: take another port") from None
    return end
