"""HttpClient: requests to one server. The key comes from the environment and is neither told nor kept."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import httpx2

from tui_entropy.core.errors import UserError
from tui_entropy.servers.http.address import base_of, is_loopback
from tui_entropy.servers.streams.chunks import error_text

CONNECT_S = 5.0
SHORT_S = 10.0
"""Seconds for an answer that costs the server nothing."""
MAX_ANSWER_BYTES = 256 << 20
SAID = 300
"""Characters of what a server says of a mistake that are passed on."""


class ServerRefused(UserError):
    """The server answered, and the answer was no."""

    def __init__(self, sentence: str, status: int, said: str) -> None:
        super().__init__(sentence)
        self.status, self.said = status, said


class HttpClient:
    """Several threads may use it: a stream is read on one while names are asked for on another."""

    def __init__(self, url: str, key_env: str, timeout: float) -> None:
        """url: with or without '/v1'. key_env: the environment variable with the key; one that is not set is no key.
        timeout: seconds without a word. Raises UserError for what is no URL of a server."""
        self.url = base_of(url, "--server")
        key = os.environ.get(key_env, "").strip()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._key_env, self._timeout = key_env, timeout
        try:
            self._client = httpx2.Client(
                headers=headers,
                timeout=httpx2.Timeout(timeout, connect=CONNECT_S),
                trust_env=not is_loopback(httpx2.URL(self.url).host),
                limits=httpx2.Limits(max_connections=8),
            )
        except (ValueError, UnicodeError) as wrong:
            raise UserError(f"the key in ${key_env} cannot be sent: {type(wrong).__name__}") from None

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, timeout: float = SHORT_S) -> Any:
        """The JSON of an answer. Raises ServerRefused, and UserError where there is none."""
        return self._json("GET", path, None, timeout)

    def post(self, path: str, body: object, timeout: float | None = None, most_bytes: int = MAX_ANSWER_BYTES) -> Any:
        """The same. most_bytes: of the answer."""
        return self._json("POST", path, body, timeout or self._timeout, most_bytes)

    def look(self, path: str, body: object = None) -> Any:
        """The JSON of an answer if there is one, else None: for what a server may lack."""
        try:
            return self.get(path) if body is None else self.post(path, body, SHORT_S)
        except ServerRefused:
            return None

    def _json(self, method: str, path: str, body: object, timeout: float, most_bytes: int = MAX_ANSWER_BYTES) -> Any:
        with self._asked(method, path, body, timeout) as answer:
            held = b""
            for piece in answer.iter_bytes():
                held += piece
                if len(held) > most_bytes:
                    raise UserError(f"{self.url}{path} answered with more than {most_bytes >> 20} MiB")
        try:
            return json.loads(held)
        except (ValueError, RecursionError):
            raise UserError(
                f"{self.url}{path} did not answer in JSON but with {held[:60]!r}: is it that of a model server?"
            ) from None

    @contextmanager
    def stream(
        self, path: str, body: object, opened: Callable[[Callable[[], None]], object] = lambda _: None
    ) -> Iterator[Iterator[bytes]]:
        """The pieces of a streamed answer as they come. Whoever leaves the `with` ends the request. Iterating raises
        UserError where the stream breaks. opened: is given what breaks it off from another thread."""
        with self._asked("POST", path, body, self._timeout) as answer:
            opened(partial(_break_off, answer))
            yield answer.iter_bytes()

    @contextmanager
    def _asked(self, method: str, path: str, body: object, timeout: float) -> Iterator[httpx2.Response]:
        limits = httpx2.Timeout(timeout, connect=min(timeout, CONNECT_S))
        try:
            with ExitStack() as asked:
                answer = self._answered(asked, method, self.url + path, body, limits)
                if answer.status_code >= 300:
                    raise self._refusal(path, answer)
                yield answer
        except httpx2.TimeoutException:
            raise UserError(f"{self.url}{path} said nothing for {timeout:g} s: is the server still up?") from None
        except httpx2.TransportError as broken:
            raise UserError(f"{self.url}{path} cannot be reached ({_why(broken)}): is the server up?") from None
        except httpx2.HTTPError as wrong:
            raise UserError(f"{self.url}{path} did not answer as a server should: {_why(wrong)}") from None

    def _answered(
        self, asked: ExitStack, method: str, url: str, body: object, limits: httpx2.Timeout
    ) -> httpx2.Response:
        """The beginning of an answer, which ends with `asked`. A server may close a connection that was kept open in
        the moment in which it is used once more: then it is asked again."""
        try:
            return asked.enter_context(self._client.stream(method, url, json=body, timeout=limits))
        except httpx2.RemoteProtocolError:
            return asked.enter_context(self._client.stream(method, url, json=body, timeout=limits))

    def _refusal(self, path: str, answer: httpx2.Response) -> ServerRefused:
        said = ""
        for piece in answer.iter_bytes():
            said += piece.decode("utf-8", "replace")
            if len(said) > 1 << 16:
                break
        status = answer.status_code
        try:
            found = json.loads(said)
            said = error_text(found.get("error") or found.get("detail") or found) if isinstance(found, dict) else said
        except ValueError:
            said = " ".join(said.split())
        said = said[:SAID]
        if status in (401, 403):
            wanted = f"{self.url} wants a key: put it into the environment variable {self._key_env}"
            return ServerRefused(f"{wanted} ({status}: {said})", status, said)
        if status == 503:
            return ServerRefused(f"{self.url} is not ready yet ({said}): try again in a moment", status, said)
        return ServerRefused(f"{self.url}{path} refused with {status}: {said}", status, said)


def _break_off(answer: httpx2.Response) -> None:
    """Wake whoever waits for the next piece: to close a socket does not."""
    stream = answer.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
