"""Work on what comes from elsewhere, in a process of its own with a bound on time and memory."""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

CPU_LIMIT_S = 1
"""Of a processor."""
TIMEOUT_S = 30.0
"""Seconds by the clock, where other work takes the processor."""
MAX_MEMORY_BYTES = 2**29
"""Bytes that it may take."""
MAX_ANSWER_BYTES = 2**26
"""Bytes of an answer."""


class Unfinished(Exception):
    """The work went beyond its bounds, or its process died: how, in a phrase."""


def run_bounded(work: Callable[[], Any]) -> Any:
    """The result of `work`, which JSON can hold. Whatever it does or raises stays with its process.

    Raises Unfinished.
    """
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads are left behind, and asked for nothing
            pid = os.fork()
    except OSError as refused:
        os.close(reading)
        os.close(writing)
        raise Unfinished(f"no process could be started for it: {refused.strerror}") from refused
    if pid == 0:
        _child(work, writing)
    os.close(writing)
    try:
        answer = _answer(reading)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        raise Unfinished(f"it came to no end in {CPU_LIMIT_S} s")
    try:
        return json.loads(answer)
    except ValueError:
        raise Unfinished("it ended its process") from None


def _child(work: Callable[[], Any], writing: int) -> None:
    try:
        gc.disable()  # nothing of the other process is put away here
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 1))
        room = psutil.Process().memory_info().vms + MAX_MEMORY_BYTES
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        with suppress(ValueError, OSError):  # no more than it may have anyway
            resource.setrlimit(resource.RLIMIT_AS, (room, hard))
        with open(writing, "wb") as pipe:
            pipe.write(json.dumps(work()).encode())
    finally:
        os._exit(0)


def _answer(reading: int) -> bytes:
    parts: list[bytes] = []
    size, end = 0, time.monotonic() + TIMEOUT_S
    while select.select([reading], [], [], max(end - time.monotonic(), 0))[0]:
        part = os.read(reading, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
        if (size := size + len(part)) > MAX_ANSWER_BYTES:
            raise Unfinished(f"it made more than {MAX_ANSWER_BYTES >> 20} MiB of text")
    raise Unfinished(f"it came to no end in {TIMEOUT_S:.0f} s")
