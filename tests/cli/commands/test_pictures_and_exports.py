"""Recordings as pictures, films and files of other kinds."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from promises import recorded
from tried_commands import runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


@runs("tui-entropy replay story.tui --snapshot fig1.svg@120x36:token=80 --snapshot fig2.txt:page=numbers")
def test_pictures(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    assert (story.folder / "fig1.svg").read_text().startswith("<svg")
    numbers = (story.folder / "fig2.txt").read_text()
    newest = recorded(story.folder / "story.tui").numbers[-1, 0] / np.log(2)
    row = next(row for row in numbers.splitlines() if re.search(r"\bentropy\b", row) and "bits" in row)
    assert f"{newest:.2f}" in row


@runs("tui-entropy replay story.tui --snapshot fig1.png --theme light")
def test_a_picture_in_pixels(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    assert (story.folder / "fig1.png").read_bytes().startswith(b"\x89PNG")


@runs("tui-entropy replay story.tui --cast story.cast --size 100x30")
def test_a_film(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    header = json.loads((story.folder / "story.cast").read_text().splitlines()[0])
    assert (header["version"], header["width"], header["height"]) == (2, 100, 30)


@runs("tui-entropy replay story.tui --cast waits.cast --size 80x24 --to 30 --speed 0.1 --idle 0.2")
def test_a_film_of_which_no_wait_is_longer(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    _, *events = map(json.loads, (story.folder / "waits.cast").read_text().splitlines())
    waits = np.diff([at for at, code, _ in events if code == "o"])
    assert max(waits) == pytest.approx(0.2)
    assert [label.split()[1] for _, code, label in events if code == "m"][-1] == "30"


@runs("tui-entropy replay story.tui --demo --cast story.svg --size 100x28 --to 40")
def test_a_film_in_a_picture(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    film = (story.folder / "story.svg").read_text()
    assert "@keyframes" in film and "story.tui" not in film.split("</title>")[1]


EXPORTS = (
    "tui-entropy export run.tui --to html",
    "tui-entropy export run.tui --to png --bits",
    "tui-entropy export run.tui --to csv",
    "tui-entropy export run.tui --to parquet",
    "tui-entropy export run.tui --to npz",
    "tui-entropy export run.tui --to jsonl -o -",
    "tui-entropy export run.tui --to inif -o run.inif",
    "tui-entropy export run.tui --to cast",
    "tui-entropy export run.tui --to svg --run 1 --no-bits --out figure.svg",
)


@runs(*EXPORTS)
def test_exporting(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    entropies = recorded(story.folder / "run.tui").numbers[:, 0]
    kind = line.split("--to ")[1].split()[0]
    if kind == "jsonl":
        steps = [line for row in done.out.splitlines() if "index" in (line := json.loads(row))]
        assert [one["entropy_nats"] for one in steps] == pytest.approx(list(entropies))
        return
    path = story.folder / ("figure.svg" if kind == "svg" else f"run.{kind}")
    assert path.stat().st_size > 1000
    if kind == "npz":
        arrays = np.load(path)
        assert arrays["head_entropy_nats"].shape == (len(entropies), 30, 9)
        np.testing.assert_allclose(arrays["entropy_nats"], entropies, rtol=1e-6)
    if kind == "csv":
        import csv

        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))[-len(entropies) :]  # the prompt comes first
            column = [float(row["entropy_nats"]) for row in rows]
        assert column == pytest.approx(list(entropies))
    if kind == "parquet":
        import pyarrow.parquet as parquet

        column = parquet.read_table(path)["entropy_nats"].to_pylist()[-len(entropies) :]
        assert column == pytest.approx(list(entropies))
    if kind == "html":
        assert "lighthouse" in path.read_text()
