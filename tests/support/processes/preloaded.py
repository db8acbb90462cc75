"""Commands and engines without the seconds that importing torch takes: forks of one process that has imported it.

A fork has the arguments, environment, folder, streams and largest size of a file that it was started with, and
leaves an exit code. It may take ROOM bytes of memory. What stands for it where it was started hands signals on, and
takes it along when it is killed.

`python preloaded.py serve SOCKET` is that process, `python preloaded.py SOCKET KIND ARGUMENT...` starts a
fork of a kind, 'command' or 'engine', and is there as long as it is. This part needs the standard library only.
"""

from __future__ import annotations

import array
import fcntl
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

STARTING = 120.0
"""Seconds for the imports, on a machine that is shared."""
POLL = 0.01
ROOM = 3 << 30
"""Bytes of address space that a fork may take beyond what the imports did."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
WORDS = ("--headless", "--json")
COMMANDS = ("doctor", "probe", "lens", "embeddings", "perplexity", "analyze")
"""These, and any command with one of those words, import torch in their own process. Others leave it to an engine."""


class Preloaded:
    """The process of which the others are forks. To be used in a `with`."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        """env: what huggingface_hub reads as it is imported. Without it no fork finds a model outside a folder."""
        self._env = env

    def __enter__(self) -> Preloaded:
        self._folder = tempfile.TemporaryDirectory()  # a socket's path may not be long
        self.socket = f"{self._folder.name}/s"
        nowhere = {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{self._folder.name}/hub"}
        env = {**os.environ, **(nowhere if self._env is None else self._env)}
        command = [sys.executable, __file__, "serve", self.socket]
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=env)
        deadline = time.monotonic() + STARTING
        while not os.path.exists(self.socket):
            assert self._server.poll() is None and time.monotonic() < deadline, "it has not come up"
            time.sleep(POLL)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        self._server.wait(30)
        self._folder.cleanup()

    @property
    def engine(self) -> str:
        """For TUI_ENTROPY_ENGINE."""
        return shlex.join(self.words("engine"))

    def words(self, kind: str) -> list[str]:
        """The command that starts a fork of a kind; arguments come behind it."""
        return [sys.executable, "-I", "-S", __file__, self.socket, kind]

    def write_command(self, path: os.PathLike[str], real: str) -> None:
        """A program that is a fork where `real` would import torch, and else is `real`."""
        kinds = "|".join([*(f'" {name} "*' for name in COMMANDS), *(f'*" {word} "*' for word in WORDS)])
        script = (
            f'#!/bin/sh\ncase " $* " in {kinds}) exec {shlex.join(self.words("command"))} "$@" ;; esac\n'
            f'exec {shlex.quote(real)} "$@"\n'
        )
        with open(path, "w", opener=lambda path, flags: os.open(path, flags, 0o755)) as file:
            file.write(script)


def start(path: str, kind: str, arguments: list[str]) -> int:
    """Have a fork, be there as long as it is, and return its exit code."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(path)
        limit = str(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
        texts = [
            kind,
            os.getcwd(),
            limit,
            str(len(arguments)),
            *arguments,
            *(f"{k}={v}" for k, v in os.environ.items()),
        ]
        request = b"\0".join(os.fsencode(text) for text in texts)
        streams = array.array("i", [0, 1, 2])
        link.sendmsg([len(request).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        link.sendall(request)
        pid = int.from_bytes(_exactly(link, 8), "big")
        for number in FORWARDED:
            signal.signal(number, lambda number, _: os.kill(pid, number))
        return int.from_bytes(_exactly(link, 8), "big")


def _exactly(link: socket.socket, n: int) -> bytes:
    got = b""
    while len(got) < n:
        more = link.recv(n - len(got))
        if not more:
            sys.exit("the process that has torch is gone")
        got += more
    return got


def serve(path: str) -> None:
    """Fork for each request until SIGTERM."""
    sys.path[0] = ""  # as for `python -m`: no module of the tests stands in the way of another
    from tui_entropy.cli.options import prepare_engine

    prepare_engine()
    from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

    import tui_entropy.analysis.run
    import tui_entropy.engine.verify.doctor
    import tui_entropy.serving.worker  # noqa: F401

    forks: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path}~")
        server.listen(64)
        os.rename(f"{path}~", path)  # it is there once it can be reached
        server.settimeout(POLL)
        while True:
            with suppress(TimeoutError):
                link, _ = server.accept()
                pid = _forked(link, server)
                link.sendall(pid.to_bytes(8, "big"))
                link.setblocking(False)
                forks[pid] = link
            for pid, link in list(forks.items()):
                _look_after(pid, link, forks)


def _look_after(pid: int, link: socket.socket, forks: dict[int, socket.socket]) -> None:
    """Tell how a fork has ended; end one whose stand-in is gone, with all that it started."""
    with suppress(BlockingIOError):
        if not link.recv(1):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        code = os.waitstatus_to_exitcode(status)
        with suppress(OSError):
            link.sendall((code if code >= 0 else 128 - code).to_bytes(8, "big"))
        link.close()
        del forks[pid]


def _forked(link: socket.socket, server: socket.socket) -> int:
    """The id of a process that is what was asked for."""
    link.settimeout(10)
    length, streams = _request(link)
    texts = [os.fsdecode(text) for text in _exactly(link, length).split(b"\0")]
    pid = os.fork()
    if pid:
        for stream in streams:
            os.close(stream)
        return pid
    code: object = 250
    try:
        server.close()
        link.close()
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        if os.isatty(0):
            with suppress(OSError):  # it is another's
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        kind, cwd, largest_file, n, *rest = texts
        _limit(int(largest_file))
        arguments, variables = rest[: int(n)], rest[int(n) :]
        os.environ.clear()
        os.environ.update(variable.split("=", 1) for variable in variables)
        os.chdir(cwd)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(os.dup(number), "w" if number else "r", errors="surrogateescape") for number in range(3)
        )
        sys.argv = ["tui-entropy", *arguments]
        if kind == "engine":
            from tui_entropy.serving import worker

            worker.main(*map(Path, arguments))
            code = 0
        else:
            from tui_entropy.__main__ import main

            main()
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else bool(code))


def _limit(largest_file: int) -> None:
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if largest_file != resource.RLIM_INFINITY:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))


def _request(link: socket.socket) -> tuple[int, list[int]]:
    """How many bytes come, and the streams."""
    data, streams, *_ = socket.recv_fds(link, 8, 3)
    return int.from_bytes(data, "big"), streams


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(start(sys.argv[1], sys.argv[2], sys.argv[3:]))
