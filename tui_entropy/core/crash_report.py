"""The report of an unexpected failure: a file with all that is known of it, and a sentence that names the file."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tui_entropy import __version__
from tui_entropy.core import paths
from tui_entropy.core.escape import visible

PACKAGES = ("torch", "transformers", "tokenizers", "textual", "msgspec", "numpy")
"""Whose versions say most about a failure."""
MAX_SENTENCE_CHARS = 200
"""Characters of what an error says of itself that go into a sentence."""


def write_report(error: BaseException, what: str = "tui-entropy") -> str:
    """Write a report, and give the sentence that a person is told. what: failed."""
    kind, message = type(error).__name__, visible(next(iter(str(error).strip().splitlines()), ""), in_table=True)
    brief = f"{kind}: {message[:MAX_SENTENCE_CHARS]}" if message else kind
    file = report_of(error)
    where = f"the report {file} tells all that is known of it" if file else "no report of it could be written"
    return f"{what} failed, which is a fault of the program ({brief}): {where}"


def report_of(error: BaseException) -> Path | None:
    """Write all that is known of a failure; where to, None for nowhere."""
    return _write("\n".join(_lines(error)))


def _lines(error: BaseException) -> Iterator[str]:
    yield f"tui-entropy {__version__}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}"
    yield f"command: {sys.argv!r}"
    yield f"python {sys.version!r} on {platform.platform()}"
    yield ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    yield ""
    yield visible("".join(traceback.format_exception(error)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _write(text: str) -> Path | None:
    """In the folder of logs, or where anything can be written. Only this user can read it: it quotes the command."""
    name = f"failure-{time.strftime('%Y-%m-%d-%H%M%S')}-{os.getpid()}"
    for folder in (paths.logs(), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, path = tempfile.mkstemp(".txt", f"{name}-", folder)
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return Path(path)
    return None
