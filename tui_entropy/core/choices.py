"""Words kept on disk for a model on this machine, so that what was found out about it once holds from then on."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tui_entropy.core import paths

MAX_FILE_BYTES = 4096
"""Bytes of a file of ours."""
Check = Callable[[str], bool]
"""Whether a word is one that is kept: what stands in a file may be anything."""


def path_of(kind: str, *about: object) -> Path:
    """The file that keeps a word of that kind about these."""
    key = hashlib.sha256("\0".join(map(str, about)).encode("utf-8", "surrogateescape")).hexdigest()
    return paths.state() / kind / key[:24]


def kept(path: Path, check: Check) -> str | None:
    try:
        with path.open("rb") as file:
            value = file.read(MAX_FILE_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return value if check(value) else None


def keep(path: Path, word: str, check: Check) -> str:
    """Kept whole or not at all. Of two programs that keep one at once the first is heard; where nothing can be kept,
    the word holds for this program alone."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{word}\n")
            try:
                os.link(temporary, path)
            except FileExistsError:
                if first := kept(path, check):
                    return first
                os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return word
