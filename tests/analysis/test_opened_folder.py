"""The folder of an analysis on the screen of results: its curves and sentences are those of its tables."""

import json
import re
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
        scores="Perplexity,MeanTokenEntropy", output_dir=tmp_path_factory.mktemp("out"),
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


def test_lines_that_were_left_out_are_counted_whoever_left_them_out(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    summary = json.loads((copy / "summary.json").read_text())
    assert "left out" not in results_of_folder(copy).listing.note
    summary["models"]["little"]["left_out"] = [["s.txt line 3", "it has one token at most"]]
    (copy / "summary.json").write_text(json.dumps(summary))
    assert "1 line was left out" in results_of_folder(copy).listing.note
    summary["left_out"] = [["s.txt line 6", "it is no UTF-8"]]
    (copy / "summary.json").write_text(json.dumps(summary))
    assert "2 lines were left out" in results_of_folder(copy).listing.note


def test_what_control_changed_is_there_too(folder):
    found = results_of_folder(folder)
    analyses = [row.cells[6] for row in found.listing.rows]
    assert analyses.count("comparative") == 9 and analyses.count("standard") == analyses.count("control") == 9 + 1
    changed = next(row for row in found.listing.rows if row.cells[6] == "comparative")
    standard, control = (values_in(folder, analysis, "layer_entropies") for analysis in ("standard", "control"))
    curve = found.charts[changed.chart].curves[0]
    assert changed.cells[0] == "layer entropy" and len(changed.inside.rows) == len(SENTENCES)
    np.testing.assert_allclose(curve.y, (control - standard).mean(0), atol=1e-5)


def test_a_sentence_opens_its_text_as_it_was_given(folder):
    found = results_of_folder(folder)
    for row in found.listing.rows:
        if row.cells[0] == "uncertainty scores":
            continue  # opens into scores
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


def test_scores_open_into_sentences_the_least_certain_first(folder):
    found = results_of_folder(folder)
    (row,) = [
        row for row in found.listing.rows if row.cells[0] == "uncertainty scores" and row.cells[6] == "standard"
    ]
    perplexity, entropy = row.inside.rows
    assert (perplexity.cells[0], entropy.cells[0], perplexity.cells[1]) == ("Perplexity", "MeanTokenEntropy", "nats")
    told = json.loads((folder / "summary.json").read_text())["scores"]["sentences"]
    expected = {one["sentence"]: one["Perplexity"] for one in told if one["analysis"] == "standard"}
    values = [one.cells[0] for one in perplexity.inside.rows]
    assert {one.cells[1]: one.cells[0] for one in perplexity.inside.rows} == expected
    assert values == sorted(values, reverse=True) and perplexity.cells[2] == pytest.approx(sum(values) / 3)
    assert (perplexity.cells[3], perplexity.cells[5]) == (values[-1], values[0])
    opened = [found.texts[one.opens[0].text].text for one in perplexity.inside.rows]
    assert opened == [one.cells[1] for one in perplexity.inside.rows]


@pytest.mark.parametrize(
    "damage", [(r"\d+\.\d+", "nan"), (r"\d+\.\d+", "x"), ("Sentence", "Phrase"), ("little", "other")]
)
def test_a_table_of_scores_that_somebody_changed_is_refused_with_its_name(folder, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    table = copy / "scores.csv"
    table.write_text(re.sub(*damage, table.read_text()))
    with pytest.raises(UserError, match=r"scores\.csv"):
        results_of_folder(copy)
