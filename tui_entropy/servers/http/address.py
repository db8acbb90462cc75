"""The address of a server, as people give it. No HTTP library is needed to look at one."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from tui_entropy.core.errors import UserError

EXAMPLE = "http://127.0.0.1:8000"


def base_of(url: str, option: str, example: str = EXAMPLE) -> str:
    """A server's address without '/v1', which the paths of requests have. option: what it was given with, for the
    UserError that is raised where it is none."""
    base = url.strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(base)
        right = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        right = right and base.isascii() and base.isprintable() and " " not in base and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise UserError(f"{option} {url} is no address of a server: wanted one such as {example}")
    return base


def is_loopback(host: str) -> bool:
    """On this machine: nobody else reaches it, and no proxy of the environment belongs in between."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
