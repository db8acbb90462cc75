"""The folder of an analysis on the screen of results: its curves and sentences are those of its tables."""

import json
import shutil

import numpy as np
import pytest
import small

from tui_entropy.analysis.corpus.analyze import run_analysis
from tui_entropy.analysis.corpus.opened import results_of_folder
from tui_entropy.core.errors import UserError

SENTENCES = ["The cat sat on the mat.", "=1+1 is no formula here, friend", "Go, and do not look back"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = small.saved(tmp_path_factory.mktemp("model") / "little")
    vector = np.linspace(-1, 1, 32).astype(np.float32)
    found = run_analysis(
        sentences=SENTENCES, models=str(model), control_vector=vector, compare_control=True,
        output_dir=tmp_path_factory.mktemp("out"),
    )  # fmt: skip
    return found.output_dir


def values_in(folder, analysis, metric, last=""):
    rows = (folder / analysis / "data" / f"little_{metric}{last}.csv").read_text().splitlines()[1:]
    return np.array([json.loads(row.rpartition(',"')[2].rstrip('"').replace('""', '"')) for row in rows], dtype=float)


def test_curves_are_the_sentences_their_mean_and_a_band(folder):
    found = results_of_folder(folder)
    row = next(row for row in found.listing.rows if row.cells[0] == "layer entropy" and row.cells[6] == "standard")
    chart, table = found.charts[row.chart], values_in(folder, "standard", "layer_entropies")
    mean, *each = chart.curves
    assert mean.emphasis == 1 and [curve.emphasis for curve in each] == [0] * len(SENTENCES)
    np.testing.assert_allclose(mean.y, table.mean(0))
    np.testing.assert_allclose([curve.y for curve in each], table)
    np.testing.assert_allclose(chart.high, table.mean(0) + table.std(0))
    assert mean.x == tuple(map(float, range(table.shape[1]))) and row.cells[3] == pytest.approx(table[:, -1].mean())
    attention = next(row for row in found.listing.rows if row.cells[0] == "attention entropy")
    assert found.charts[attention.chart].curves[0].x[0] == 1.0


def test_what_control_changed_is_there_too(folder):
    found = results_of_folder(folder)
    analyses = [row.cells[6] for row in found.listing.rows]
    assert analyses.count("standard") == analyses.count("control") == analyses.count("comparative") == 9
    changed = next(row for row in found.listing.rows if row.cells[6] == "comparative")
    standard, control = (values_in(folder, analysis, "layer_entropies") for analysis in ("standard", "control"))
    curve = found.charts[changed.chart].curves[0]
    assert changed.cells[0] == "layer entropy" and len(changed.inside.rows) == len(SENTENCES)
    np.testing.assert_allclose(curve.y, (control - standard).mean(0), atol=1e-5)


def test_a_sentence_opens_its_text_as_it_was_given(folder):
    found = results_of_folder(folder)
    for row in found.listing.rows:
        opened = [found.texts[line.opens[0].text].text for line in row.inside.rows]
        assert opened == SENTENCES and [line.cells[0] for line in row.inside.rows] == SENTENCES
    assert found.models[0].spec.name.endswith("little")


@pytest.mark.parametrize("damage", ["none", "journal", "summary", "tables", "cells", "lengths"])
def test_a_folder_that_is_none_or_damaged_is_refused_in_a_sentence(folder, tmp_path, damage):
    copy = tmp_path / "run_x"
    shutil.copytree(folder, copy)
    table = copy / "standard" / "data" / "little_layer_entropies.csv"
    match damage:
        case "none":
            copy = tmp_path
        case "journal":
            (copy / ".journal").mkdir()
        case "summary":
            (copy / "summary.json").write_text("[]")
        case "tables":
            for file in copy.rglob("*.csv"):
                file.unlink()
        case "cells":
            table.write_text("sentence,values\nx,\x00{}\n")
        case "lengths":
            table.write_text('sentence,values\n"x","[1,2]"\n"y","[1]"\n')
    with pytest.raises(UserError):
        results_of_folder(copy)
