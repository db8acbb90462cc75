"""The demos of the README: filmed anew they are what is there, they fit, and their keys do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tui_entropy.core.errors import UserError
from tui_entropy.ui.capture.scenes import film_demo, read_demo

ROOT = Path(__file__).parents[3]
DEMOS = sorted((ROOT / "docs" / "demos").glob("*.toml"))
MAX_BYTES_A_SECOND = 250_000 / 20


def test_none_is_stale():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "demo", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("KB") == len(DEMOS) == 3


def test_one_that_is_stale_is_told(tmp_path):
    for file in (ROOT / "docs" / "demos").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    scenes = tmp_path / "stop.toml"
    scenes.write_text(scenes.read_text().replace("one token at a time", "another caption"))
    assert film_demo(scenes) != (tmp_path / "stop.svg").read_text()


@pytest.mark.parametrize("file", DEMOS, ids=lambda file: file.stem)
def test_each_is_small_for_its_length_and_stands_in_the_readme(file):
    svg = file.with_suffix(".svg").read_text()
    seconds = float(re.search(r"g\{animation:([\d.]+)s", svg)[1])
    assert 10 < seconds < 30 and len(svg.encode()) < MAX_BYTES_A_SECOND * seconds
    assert f"docs/demos/{file.stem}.svg" in (ROOT / "README.md").read_text()


def test_what_is_no_demo_is_a_sentence(tmp_path):
    (tmp_path / "a.toml").write_text("title = 3")
    with pytest.raises(UserError, match="holds no demo"):
        read_demo(tmp_path / "a.toml")
