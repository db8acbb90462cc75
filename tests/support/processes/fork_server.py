"""Commands run to their end without the seconds that importing torch takes: forks of a preloaded process.

What a command is given (arguments, environment, streams, limits) and what it leaves (exit code, bytes, seconds) is
that of a process that was started for it.
"""

from __future__ import annotations

import os
import pty
import resource
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from preloaded import Preloaded


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    """As a shell has it, 137 for one that was killed."""
    out: bytes
    err: bytes
    """Nothing in a terminal, where both went to `out`."""
    seconds: float
    killed: bool
    """It had not ended in time."""

    @property
    def said(self) -> str:
        return self.err.decode("utf-8", "surrogateescape")


class ForkServer:
    """Runs commands, one after the other. To be used in a `with`."""

    def __init__(self, preloaded: Preloaded, env: Mapping[str, str], cwd: Path) -> None:
        """env: beside that of this process."""
        self._preloaded, self.env, self.cwd = preloaded, env, cwd

    def __enter__(self) -> ForkServer:
        self._folder = tempfile.TemporaryDirectory()
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def run(
        self,
        *arguments: str | bytes,
        stdin: bytes | Path = b"",
        stdout: Path | None = None,
        env: Mapping[str, str | bytes | None] | None = None,
        seconds: float = 60.0,
        largest_file: int | None = None,
    ) -> Done:
        """Run a command to its end. stdin: its bytes or a file. stdout: where it goes, if not here. env: a value of
        None takes a variable away. largest_file: bytes that it may write to one."""
        folder, began = Path(self._folder.name), time.monotonic()
        if isinstance(stdin, bytes):
            (folder / "in").write_bytes(stdin)
            stdin = folder / "in"
        out, err = folder / "out", folder / "err"
        out.write_bytes(b"")
        err.write_bytes(b"")
        streams = [
            os.open(stdin, os.O_RDONLY), os.open(stdout or out, os.O_WRONLY), os.open(err, os.O_WRONLY)
        ]  # fmt: skip
        try:
            process = self._started(arguments, streams, env or {}, largest_file)
        finally:
            for stream in streams:
                os.close(stream)
        killed = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            killed = True
            process.kill()
        return Done(_code(process), out.read_bytes(), err.read_bytes(), time.monotonic() - began, killed)

    def in_terminal(
        self,
        *arguments: str | bytes,
        env: Mapping[str, str | bytes | None] | None = None,
        seconds: float = 60.0,
        typed: bytes = b"",
    ) -> Done:
        """Run a command in a pseudo-terminal, all that it gets in `out`. typed: what is there to be read."""
        here, there = pty.openpty()
        began, got = time.monotonic(), b""
        try:
            os.write(here, typed)
            process = self._started(arguments, [there] * 3, {"TERM": "xterm-256color", **(env or {})})
            while process.poll() is None and time.monotonic() < began + seconds:
                if select.select([here], [], [], 0.02)[0]:
                    got += os.read(here, 1 << 16)
            if killed := process.poll() is None:
                process.kill()
            code = _code(process)
            while select.select([here], [], [], 0)[0]:
                got += os.read(here, 1 << 16)
        finally:
            os.close(there)
            os.close(here)
        return Done(code, got, b"", time.monotonic() - began, killed)

    def _started(
        self,
        arguments: tuple[str | bytes, ...],
        streams: list[int],
        env: Mapping[str, str | bytes | None],
        largest_file: int | None = None,
    ) -> subprocess.Popen[bytes]:
        own = {os.fsencode(name): os.fsencode(value) for name, value in {**os.environ, **self.env}.items()}
        for name, value in env.items():
            own.pop(os.fsencode(name), None)
            if value is not None:
                own[os.fsencode(name)] = os.fsencode(value)

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        command = [*self._preloaded.words("command"), *arguments]
        stdin, stdout, stderr = streams
        return subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=stderr, env=own, cwd=self.cwd, preexec_fn=limit
        )


def _code(process: subprocess.Popen[bytes]) -> int:
    code = process.wait()
    return code if code >= 0 else 128 - code
