"""Folders that are either whole or not there."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tui_entropy.core.errors import UserError


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """`target`, made by `build` if it is not there yet.

    `build` is given an empty folder beside it, which takes the name of the target once it is whole. However it is
    left, by an exception or by a power cut, no half-made target is ever seen: what a killed process leaves behind
    is removed the next time, and a second process waits for the first and takes what it made.
    Raises UserError where the folder cannot be written.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.with_name(f".{target.name}.lock")):
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            if target.is_dir():
                return target
            try:
                partial.mkdir()
                build(partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as failed:
        raise UserError(
            f"{target} could not be written ({failed.strerror or failed}); make room or set XDG_CACHE_HOME to a "
            "folder that can be written"
        ) from failed
    return target


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time. The lock goes with the process that holds it."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
