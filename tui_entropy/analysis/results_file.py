"""Results as a file: JSON, written whole or not at all, and read by nobody who believes it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import text_of
from tui_entropy.records.corpus.results import Results

FORMAT = "tui-entropy results 1"


class _File(msgspec.Struct, frozen=True):
    format: str
    results: Results


def write_results(results: Results, path: Path) -> None:
    """Raises UserError for a file that cannot be written."""
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(msgspec.json.encode(_File(FORMAT, results)))
        beside.replace(path)
    except OSError as refused:
        beside.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({refused.strerror}): name another file") from refused


def read_results(path: Path) -> Results:
    """Raises UserError for what is no such file."""
    try:
        kept = msgspec.json.decode(text_of(path), type=_File)
    except OSError as refused:
        raise UserError(f"{path} cannot be read ({refused.strerror}): name a file that --output kept") from refused
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} holds no results ({error}): name a file that --output kept") from error
    if kept.format != FORMAT:
        raise UserError(f"{path} is of the format {kept.format!r}, and {FORMAT!r} can be read")
    return kept.results
