"""What `tui-entropy models` tells."""

from pathlib import Path

import pytest

from tui_entropy.core import paths
from tui_entropy.engine.sources.catalogue import Provenance, cached
from tui_entropy.engine.sources.model_table import listing


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "models", lambda: tmp_path / "kept")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def keep(name: str, size: int) -> Path:
    folder = paths.models() / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(size))
    Provenance("Title", "source", "Q4_1, dequantised").write(folder)
    return folder


def test_at_first_nothing_is_here_and_all_can_be_fetched() -> None:
    assert cached() == []
    text = listing()
    assert "nothing yet" in text
    for part in (
        "93 MB",
        "Apache-2.0",
        "tui-entropy fetch smollm2",
        "238 MB",
        "Gemma Terms",
        "tui-entropy fetch gemma",
    ):
        assert part in text


def test_what_is_kept_is_told_with_size_note_and_path_and_not_offered_again() -> None:
    folder = keep("smollm2", 12_000_000)
    (line,) = [line for line in listing().splitlines() if str(folder) in line]
    assert line.split() == ["smollm2", "12", "MB", "Q4_1,", "dequantised", str(folder)]
    assert "fetch smollm2" not in listing()


def test_a_folder_that_is_still_being_made_is_not_told() -> None:
    keep(".mine.partial", 10)
    (paths.models() / "stranger").mkdir()
    assert cached() == []


def test_models_in_the_hub_s_cache_are_told(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--someone--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(bytes(2_000_000))
    (line,) = [line for line in listing().splitlines() if "someone/model" in line]
    assert line.split()[1:5] == ["2", "MB", "from", "the"]
