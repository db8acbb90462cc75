"""Servers of scripts/servers, run for as long as a test needs them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from places import ROOT

SCRIPT = [sys.executable, str(ROOT / "scripts" / "servers")]
END_LIMIT_S = 60


@dataclass(frozen=True)
class LiveServer:
    url: str
    pid: int
    """Of the script; the server is its child."""

    def get(self, path: str) -> Any:
        return json.loads(self.read(path))

    def post(self, path: str, **body: Any) -> Any:
        return json.loads(self.read(path, body))

    def read(self, path: str, body: Any = None) -> bytes:
        return read(self.url + path, body)

    def events(self, path: str, **body: Any) -> list[Any]:
        """What a stream says, without its last word `[DONE]`."""
        return events(self.url + path, **body)


def read(url: str, body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def events(url: str, **body: Any) -> list[Any]:
    lines = read(url, {**body, "stream": True}).decode().splitlines()
    said = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(each) for each in said if each != "[DONE]"]


@contextmanager
def running(name: str, *options: str) -> Iterator[LiveServer]:
    """A server by its name in scripts/servers, ready, gone at the end. Raises RuntimeError with its last words."""
    command = [*SCRIPT, "run", name, *(("--", *options) if options else ())]
    with (
        tempfile.TemporaryFile("w+") as words,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                words.seek(0)
                raise RuntimeError(words.read())
            yield LiveServer(url, process.pid)
        finally:
            process.terminate()
            process.wait(END_LIMIT_S)


def is_set_up(environment: str) -> bool:
    return subprocess.run([*SCRIPT, "where", environment], capture_output=True).returncode == 0
