"""A download left to another program, watched by the size of what it writes, and ended with us."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tui_entropy.records.events import Progress

POLL_S = 0.1
MEGA = 1e6


def download_with_progress(
    command: Sequence[str],
    folder: Path,
    total: int,
    stage: str,
    report: Callable[[Progress], None],
    environment: Mapping[str, str] | None = None,
) -> str | None:
    """Run `command`, which writes `total` bytes into `folder`. Returns its last words if it fails, None if not.

    However this is left, the program does not outlive it. environment: added to ours.
    """
    before, done = size(folder), 0
    with tempfile.TemporaryFile() as log:
        program = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(environment or {})})
        try:
            while program.poll() is None:
                done = max(done, min(size(folder) - before, total))
                report(Progress(stage, done / MEGA, total / MEGA, "MB"))
                with suppress(subprocess.TimeoutExpired):
                    program.wait(POLL_S)
        finally:
            program.kill()
            program.wait()
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    if program.returncode == 0:
        return None
    return lines[-1] if lines else f"{command[0]} ended with {program.returncode}"


def size(folder: Path) -> int:
    """Bytes of the files in a folder that another program may be writing to."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
