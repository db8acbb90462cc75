"""Commands as processes without the seconds that importing torch takes: a server imports it and forks for each.

What a command is given (arguments, environment, streams, limits) and what it leaves (exit code, bytes, seconds) is
that of a process that was started for it. `python tests/fork_server.py` is the server.
"""

from __future__ import annotations

import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOM = 3 << 30
"""Bytes of address space that a command may take beyond what the imports did."""


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

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        """env: beside that of this process."""
        self._env, self.cwd = {**os.environ, **env}, cwd
        self.env = env

    def __enter__(self) -> ForkServer:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._env, cwd=self.cwd
        )
        self._folder = tempfile.TemporaryDirectory()
        assert self._answer() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()  # type: ignore[union-attr]
        self._server.wait(30)
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
        folder = Path(self._folder.name)
        if isinstance(stdin, bytes):
            (folder / "in").write_bytes(stdin)
            stdin = folder / "in"
        (folder / "out").write_bytes(b"")
        (folder / "err").write_bytes(b"")
        streams = [stdin, stdout or folder / "out", folder / "err"]
        code, took, killed = self._ask(arguments, streams, env, seconds, largest_file)
        return Done(code, (folder / "out").read_bytes(), (folder / "err").read_bytes(), took, killed)

    def in_terminal(
        self,
        *arguments: str | bytes,
        env: Mapping[str, str | bytes | None] | None = None,
        seconds: float = 60.0,
        typed: bytes = b"",
    ) -> Done:
        """Run a command in a pseudo-terminal, all that it gets in `out`. typed: what is there to be read."""
        here, there = pty.openpty()
        try:
            os.write(here, typed)
            self._send(arguments, [Path(os.ttyname(there))] * 3, {"TERM": "xterm-256color", **(env or {})}, seconds)
            got, answers = b"", self._server.stdout
            while not select.select([answers], [], [], 0)[0]:
                if select.select([here], [], [], 0.02)[0]:
                    got += os.read(here, 1 << 16)
            code, took, killed = self._answer()
            while select.select([here], [], [], 0)[0]:
                got += os.read(here, 1 << 16)
        finally:
            os.close(there)
            os.close(here)
        return Done(code, got, b"", took, killed)

    def _ask(self, *request: Any) -> Any:
        self._send(*request)
        return self._answer()

    def _send(
        self,
        arguments: Sequence[str | bytes],
        streams: Sequence[Path],
        env: Mapping[str, str | bytes | None] | None,
        seconds: float,
        largest_file: int | None = None,
    ) -> None:
        changes = {name: None if value is None else os.fsdecode(value) for name, value in (env or {}).items()}
        request = [list(map(os.fsdecode, arguments)), list(map(str, streams)), changes, seconds, largest_file]
        self._server.stdin.write(json.dumps(request).encode() + b"\n")  # type: ignore[union-attr]
        self._server.stdin.flush()  # type: ignore[union-attr]

    def _answer(self) -> Any:
        line = self._server.stdout.readline()  # type: ignore[union-attr]
        assert line, "the server has ended"
        return json.loads(line)


def serve() -> None:
    """Fork for each request until there are no more."""
    from tui_entropy.cli.options import prepare_engine

    prepare_engine()
    import torch
    import transformers  # noqa: F401

    import tui_entropy.analysis.run  # noqa: F401

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    requests = os.fdopen(os.dup(0), "r")
    os.dup2(1, 0)
    print('"ready"', file=answers, flush=True)
    while line := requests.readline():
        arguments, streams, env, seconds, largest_file = json.loads(line)
        begun = time.monotonic()
        pid = os.fork()
        if pid == 0:
            answers.close()
            requests.close()
            _become(arguments, streams, env, largest_file)
        status, killed = _end(pid, begun + seconds)
        code = os.waitstatus_to_exitcode(status)
        answer = [code if code >= 0 else 128 - code, time.monotonic() - begun, killed]
        print(json.dumps(answer), file=answers, flush=True)


def _end(pid: int, by: float) -> tuple[int, bool]:
    """The status of a process that has ended by then, or is killed with all that it started."""
    while time.monotonic() < by:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status, False
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1], True


def _become(
    arguments: Sequence[str], streams: Sequence[str], env: Mapping[str, str | None], largest_file: int | None
) -> NoReturn:
    """Be the command."""
    code: object = 250
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            descriptor = os.open(stream, os.O_WRONLY if number else os.O_RDONLY)
            os.dup2(descriptor, number)
            os.close(descriptor)
        for name, value in env.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(os.dup(number), "w" if number else "r", errors="surrogateescape") for number in range(3)
        )
        sys.argv = ["tui-entropy", *arguments]
        from tui_entropy.__main__ import main

        main()
    except SystemExit as end:
        code = end.code
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else bool(code))


if __name__ == "__main__":
    serve()
