"""The formats that a recording can be exported as, and the way there."""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import put
from tui_entropy.export import cast, csv, figure, html, inif, jsonl_lines, npz, parquet
from tui_entropy.export.recorded_run import Recording, open_recording


@dataclass(frozen=True, slots=True)
class Format:
    write: Callable[[Recording, BinaryIO], None]
    ending: str
    """Of the file that is written where no other is named."""
    extra: str = ""
    """Of this package, where it needs more than the package does."""
    binary: bool = False
    """It is no text, and nothing for a terminal."""


FORMATS = {
    "csv": Format(csv.write, ".csv"),
    "jsonl": Format(jsonl_lines.write, ".jsonl"),
    "parquet": Format(parquet.write, ".parquet", "parquet", binary=True),
    "npz": Format(npz.write, ".npz", binary=True),
    "inif": Format(inif.write, ".inif.json"),
    "html": Format(html.write, ".html"),
    "cast": Format(cast.write, ".cast"),
    "svg": Format(figure.svg, ".svg", "plots"),
    "png": Format(figure.png, ".png", "plots", binary=True),
}
ZIPPED = (".gz", ".inif")
"""Endings of files that are compressed by gzip."""

STDOUT = Path("-")
BLOCK = 2**20
"""Bytes that are read at once."""


def format_of(name: str) -> Format:
    """Raises UserError for a name that is none."""
    if name not in FORMATS:
        raise UserError(f"--to {name} is no format: it can be one of {', '.join(FORMATS)}")
    return FORMATS[name]


def export(path: Path, to: str, out: Path | None = None, run: int | None = None, bits: bool = False) -> str:
    """Write one run of a trace file into another format and say where. '-' is stdout. Raises UserError.

    Nothing is written before all of it is made, so a failure leaves what was there.
    """
    form = format_of(to)
    out = out or Path(path.stem + form.ending)
    if out.exists() and out.samefile(path):
        raise UserError(f"{out} is the recording itself; name another file with -o")
    if out == STDOUT and form.binary and sys.stdout.isatty():
        raise UserError(f"--to {to} is no text that a terminal could show: name a file with -o, or redirect stdout")
    recording = open_recording(path, run, bits)
    with tempfile.TemporaryFile() as content:
        try:
            form.write(recording, content)
        except ModuleNotFoundError as missing:
            if not form.extra:
                raise
            raise UserError(
                f"--to {to} needs {missing.name}, which is not installed: pip install 'tui-entropy[{form.extra}]'"
            ) from missing
        content.seek(0)
        try:
            _deliver(content, out)
        except OSError as problem:
            raise UserError(f"{out} cannot be written: {problem.strerror}; name another file with -o") from problem
    where = "stdout" if out == STDOUT else out
    return f"run {recording.started.run}, {len(recording.log.steps)} tokens, written to {where}"


def _deliver(content: BinaryIO, out: Path) -> None:
    if out == STDOUT:
        while block := content.read(BLOCK):
            put(block)
        sys.stdout.flush()
        return
    with open(out, "wb") as plain:
        if out.suffix not in ZIPPED:
            shutil.copyfileobj(content, plain)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0) as zipped:
            shutil.copyfileobj(content, zipped)
