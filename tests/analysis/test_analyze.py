"""Analyses of sentences: the tree of llm_entropy name by name, its numbers, and runs that are interrupted."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import masked_models
import numpy as np
import pytest
import small
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tui_entropy.analysis.corpus import analyze, plots
from tui_entropy.analysis.corpus.config import read_config
from tui_entropy.analysis.corpus.entries import Entry
from tui_entropy.analysis.corpus.layer_metrics import METRICS
from tui_entropy.analysis.corpus.run_folder import RunFolder, label
from tui_entropy.analysis.corpus.tables import compared
from tui_entropy.core.errors import UserError
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.scoring.control import as_vector, read_vector, stretched, tiled, weighted
from tui_entropy.engine.scoring.passage import left_to_right
from tui_entropy.engine.scoring.scorer import Wanted
from tui_entropy.engine.scoring.texts import passage_of, score_passages, text_scores
from tui_entropy.engine.uncertainty.sentences import ScoredSentence, uncertainty_scores
from tui_entropy.metrics.registry import BY_FIELD
from tui_entropy.records.corpus.uncertainty import ScoreSettings, score_names
from tui_entropy.records.model import ModelSpec

SENTENCES = ["ACDEFG", 'He said "W", and left.', "EVQLVESGG", "=W", "KLMNOP,QRST"]
OF_001 = (
    "layer_entropies", "layer_perplexities", "layer_margins", "layer_kl_divs", "layer_attn_entropies",
    "layer_surprisals",
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model that writes and one that fills in, under the names that the example of llm_entropy has."""
    return {
        "gpt2": str(small.saved(tmp_path_factory.mktemp("gpt2"), "gpt2")),
        "bert": str(masked_models.saved(tmp_path_factory.mktemp("bert"))),
    }


@pytest.fixture(autouse=True)
def quick_plots(monkeypatch):
    """Empty pictures of the right name: what they show is looked at elsewhere."""
    for name in ("trajectories", "comparison", "differences"):
        monkeypatch.setattr(plots, name, lambda path, *what: path.write_bytes(b"png"))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def values_of(path: Path) -> list[list[float | None]]:
    return [json.loads(row["values"]) for row in rows_of(path)]


def test_the_tree_is_that_of_llm_entropy_name_by_name(models, tmp_path):
    vector = torch.full((32,), 0.5)
    run = analyze.run_analysis(
        sentences=SENTENCES, control_vector=vector, layer_weights=torch.ones(12), token_weights=torch.ones(50),
        compare_control=True, models=models, output_dir=tmp_path / "analysis_outputs",
    )  # fmt: skip
    assert run.output_dir == tmp_path / "analysis_outputs" / f"run_{run.run_id}" and run.mode == "comparative"
    names = [metric.name for metric in METRICS]
    assert names[:6] == list(OF_001)
    wanted = {"summary.json"}
    for model in ("gpt2", "bert"):
        for analysis in ("standard", "control"):
            wanted |= {f"{analysis}/data/{model}_{name}.csv" for name in names}
            wanted |= {f"{analysis}/plots/{model}_{name}.png" for name in names}
            wanted |= {f"{analysis}/predictions/{model}_predictions.csv"}
        wanted |= {f"comparative/data/{model}_{name}_comparative.csv" for name in names}
        wanted |= {
            f"comparative/plots/{model}_{name}_{end}.png" for name in names for end in ("comparison", "differences")
        }
        wanted |= {f"comparative/predictions/{model}_comparative_predictions.csv"}
    assert tree(run.output_dir).keys() == wanted
    assert json.loads((run.output_dir / "summary.json").read_text()) == json.loads(json.dumps(run.summary))


def test_tables_hold_what_the_scores_say(models, tmp_path):
    run = analyze.run_analysis(sentences=SENTENCES, models=models, output_dir=tmp_path)
    wanted = Wanted(
        lens=tuple(BY_FIELD[name] for name in ("entropy", "surprisal", "logit_margin", "uniform_kl")),
        attention=True, hidden=True,
    )  # fmt: skip
    for name, folder in models.items():
        loaded = load(ModelSpec(folder), lambda progress: None, masked=True)
        passages = [passage_of(loaded, text) for text in SENTENCES]
        found = [
            text_scores(loaded, passage, its, wanted).layers
            for passage, its in zip(passages, score_passages(loaded, passages, wanted), strict=True)
        ]
        data = run.output_dir / "standard" / "data"
        surprisal = np.array([one.lens.numpy()[..., 1].mean(-1) for one in found])
        np.testing.assert_allclose(values_of(data / f"{name}_layer_surprisals.csv"), surprisal, rtol=1e-5)
        np.testing.assert_allclose(values_of(data / f"{name}_layer_perplexities.csv"), np.exp(surprisal), rtol=1e-4)
        kl = np.array(values_of(data / f"{name}_layer_kl_divs.csv"))
        entropy = np.array(values_of(data / f"{name}_layer_entropies.csv"))
        np.testing.assert_allclose(kl + entropy, math.log(loaded.card.vocab), rtol=1e-4)
        heads = np.array([one.attention_entropy.numpy().mean(-1) for one in found])
        np.testing.assert_allclose(values_of(data / f"{name}_layer_attn_entropies.csv"), heads, rtol=1e-4, atol=1e-6)
        assert heads.shape[1] + 1 == entropy.shape[1] == loaded.card.n_layers + 1
        rows = rows_of(data / f"{name}_layer_entropies.csv")
        assert [row["sentence"] for row in rows] == ["'=W" if text == "=W" else text for text in SENTENCES]
        predictions = rows_of(run.output_dir / "standard" / "predictions" / f"{name}_predictions.csv")
        assert list(predictions[0]) == ["Sentence", "Token", "Probability", "Analysis"]
        assert len(predictions) == 5 * len(SENTENCES) and {row["Analysis"] for row in predictions} == {"standard"}
        p = [float(row["Probability"]) for row in predictions[:5]]
        assert p == sorted(p, reverse=True) and 0 < sum(p) <= 1
    head = (data / "bert_layer_entropies.csv").read_text().splitlines()
    assert head[0] == "sentence,values" and head[1].startswith('"ACDEFG","[') and " " not in head[1]


def test_comparisons_are_of_the_two_other_tables(models, tmp_path):
    run = analyze.run_analysis(
        sentences=SENTENCES[:2], control_vector=np.linspace(-1, 1, 32), compare_control=True,
        models={"gpt2": models["gpt2"]}, output_dir=tmp_path,
    )  # fmt: skip
    for metric in METRICS:
        rows = rows_of(run.output_dir / "comparative" / "data" / f"gpt2_{metric.name}_comparative.csv")
        assert [row["sentence"] for row in rows[:4]] == [
            f"{SENTENCES[0]} ({name})" for name in ("standard", "control", "difference", "percent_change")
        ]
        table = [json.loads(row["values"]) for row in rows]
        for analysis, its in (("standard", table[::4]), ("control", table[1::4])):
            assert its == values_of(run.output_dir / analysis / "data" / f"gpt2_{metric.name}.csv")
        np.testing.assert_allclose(table[2], np.subtract(table[1], table[0]), rtol=1e-4, atol=1e-6)
        assert metric.name == "layer_attn_entropies" or table[2][0] == 0.0  # the embedding is not steered
        assert any(abs(change) > 1e-3 for change in table[2][2:])


def test_uncertainty_scores_are_a_table_with_a_row_for_each_sentence(models, tmp_path):
    scores = ScoreSettings(score_names("all"), samples=3, sample_tokens=4, members=2)
    run = analyze.run_analysis(
        sentences=SENTENCES, control_vector=np.linspace(-1, 1, 32), compare_control=True, models=models,
        output_dir=tmp_path, scores=scores,
    )  # fmt: skip
    rows = rows_of(run.output_dir / "scores.csv")
    assert list(rows[0]) == ["Model", "Analysis", "Sentence", *scores.names]
    told = run.summary["scores"]["sentences"]
    assert len(rows) == len(told) == 2 * 2 * len(SENTENCES)
    for row, its in zip(rows, told, strict=True):
        known = {name for name in scores.names if its[name] is not None}
        assert {name: float(row[name]) for name in known} == {name: its[name] for name in known}
        assert all(row[name] == "" for name in set(scores.names) - known)
        assert (row["Model"], row["Analysis"]) == (its["model"], its["analysis"])
        assert "Perplexity" in known and ("SemanticEntropy" in known) == (row["Model"] == "gpt2")
        assert ("Vectors.total" in known) == ("RAUQ" in known) == (row["Model"] == "gpt2")
    loaded = load(ModelSpec(models["gpt2"]), lambda progress: None)
    sentences = [ScoredSentence(passage_of(loaded, text)) for text in SENTENCES]
    plain = uncertainty_scores(loaded, sentences, ScoreSettings(score_names("tokens")))
    for its, expected in zip(told, plain, strict=False):
        assert {name: its[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    control = [its["Perplexity"] for its in told if its["analysis"] == "control" and its["model"] == "gpt2"]
    assert control != [its["Perplexity"] for its in told[: len(SENTENCES)]]
    assert "MeanPointwiseMutualInformation" in run.summary["scores"]["without_value"]["gpt2 standard"]


def test_percent_of_nothing_is_unknown():
    rows = dict(compared("a", [2.0, 0.0, 0.0, None, -4.0], [3.0, 1.0, 0.0, 1.0, -3.0]))
    assert rows["a (difference)"] == [1.0, 1.0, 0.0, None, 1.0]
    assert rows["a (percent_change)"] == [50.0, None, 0.0, None, 25.0]


def settings(models, n=7, **more):
    entries = [Entry(f"line {at}", text) for at, text in enumerate((SENTENCES * 3)[:n])]
    scores = ScoreSettings(score_names("tokens,samples,weight-noise"), samples=2, sample_tokens=3, members=2)
    return analyze.settings_of(
        entries, 1.0, False, True, True, models, 0, token_weights=[1.0, 2.0], scores=scores, **more
    )


class Killed(BaseException):
    pass


@pytest.mark.parametrize("torn", [b"", b'{"index":3,"val', b"\x00"])
def test_a_run_that_was_killed_comes_to_the_same_bytes(models, tmp_path, monkeypatch, torn):
    monkeypatch.setattr(analyze, "POOL", 2)
    whole = analyze.start(settings(models), torch.ones(32).numpy(), tmp_path / "whole")
    its = RunFolder.keep

    def killed_after(n):
        kept = []

        def keep(folder, model, analysis, lines):
            if len(kept) == n:  # in the middle of a line
                with folder._journal(model, analysis).open("ab") as file:
                    file.write(torn)
                raise Killed
            kept.append(1)
            its(folder, model, analysis, lines[: 1 + n % 2])  # not all of a pool was written either

        return keep

    begun = settings(models)
    folder = RunFolder.create(tmp_path, replaced(begun, whole.run_id))
    save_file({"vector": torch.ones(32)}, folder.vector)
    for n in (1, 3, 0, 2):
        monkeypatch.setattr(RunFolder, "keep", killed_after(n))
        with pytest.raises(Killed):
            analyze.go_on(RunFolder.open(folder.path))
    monkeypatch.setattr(RunFolder, "keep", its)
    resumed = analyze.go_on(RunFolder.open(folder.path))
    assert tree(resumed.output_dir) == tree(whole.output_dir)
    with pytest.raises(UserError, match="done already"):
        RunFolder.open(folder.path)


def replaced(made, run_id):
    from msgspec.structs import replace

    return replace(made, run_id=run_id)


def test_sentences_that_are_none_are_named_and_left_out(models, tmp_path, capsys):
    entries = [
        Entry("line 1", "ACD"),
        Entry("line 2", "", "it is no JSON"),
        Entry("line 3", "A"),
        Entry("line 4", "EF"),
    ]
    made = analyze.settings_of(entries, 1.0, False, False, False, models, 0)
    run = analyze.start(made, None, tmp_path)
    said = capsys.readouterr().err
    assert "line 2 is left out: it is no JSON" in said and "line 3 is left out: it has one token at most" in said
    assert run.summary["left_out"] == [["line 2", "it is no JSON"]]
    assert run.summary["models"]["gpt2"]["left_out"][0][0] == "line 3"
    assert run.summary["models"]["gpt2"]["sentences"] == 2 and run.summary["models"]["bert"]["sentences"] == 3


def test_a_token_that_is_drawn_follows_from_the_seed(models, tmp_path):
    told = []
    for seed in (1, 1, 2):
        run = analyze.run_analysis(
            sentences=SENTENCES, use_sampling=True, temperature=2.0, seed=seed, models=models["gpt2"],
            output_dir=tmp_path,
        )  # fmt: skip
        (file,) = (run.output_dir / "standard" / "predictions").iterdir()
        told.append(file.read_text())
    assert told[0] == told[1] != told[2] and told[0].count("standard") == len(SENTENCES)


def test_without_matplotlib_everything_else_is_written(models, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "can_plot", lambda: False)
    run = analyze.run_analysis(sentences=SENTENCES, models=models["gpt2"], output_dir=tmp_path)
    assert "matplotlib is not installed" in capsys.readouterr().err
    assert not list(run.output_dir.rglob("*.png")) and len(list(run.output_dir.rglob("*.csv"))) == len(METRICS) + 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(compare_control=True), "nothing to compare with"),
        (dict(temperature=0.0), "temperature is 0"),
        (dict(temperature=math.nan), "temperature is nan"),
        (dict(sentences=[]), "no sentence to analyse"),
        (dict(control_vector=torch.ones(7)), "7 wide"),
        (dict(control_vector=torch.ones(3, 32)), "3 rows"),
        (dict(control_vector=torch.full((32,), math.nan)), "not finite"),
        (dict(control_vector="abc.gguf"), "cannot be read"),
        (dict(control_vector=[["a"]]), "wanted numbers"),
        (dict(control_vector=torch.ones(32), layer_weights=[]), "layer_weights are no numbers"),
        (dict(models={}), "no model is named"),
        (dict(models="/nowhere"), "no file or folder"),
        (dict(sentences=["", "A"]), r"measured by any model \(sentence 1: it has one token at most"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(models, tmp_path, given, words):
    with pytest.raises(UserError, match=words):
        analyze.run_analysis(**(dict(sentences=SENTENCES, models=models["gpt2"], output_dir=tmp_path) | given))
    assert not list(tmp_path.iterdir())  # nothing was measured, and nothing is left


# --- Vectors -------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), st.integers(1, 40))
def test_weights_are_stretched_within_their_range_and_stay_where_they_fit(weights, n):
    found = stretched(weights, n)
    assert len(found) == n and min(weights) - 1e-5 <= float(found.min()) <= float(found.max()) <= max(weights) + 1e-5
    np.testing.assert_allclose(stretched(weights, len(weights)), np.array(weights, dtype=np.float32))
    plain = torch.nn.functional.interpolate(torch.tensor([[weights]]).float(), size=n, mode="linear")[0, 0]
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_a_vector_is_weighted_by_layer_and_by_token():
    loaded = small.loaded("llama")
    push = np.arange(32, dtype=np.float32)
    offsets = weighted(loaded, push, [1, 2, 3, 4], [1.0, 3.0])(left_to_right([3, 4, 5, 6]))
    assert sorted(offsets) == [1, 2, 3, 4]
    of_tokens = np.array([1.0, 1.5, 2.5, 3.0])
    for block, its in offsets.items():
        np.testing.assert_allclose(its, block * of_tokens[:, None] * push)
    plain = weighted(loaded, push, None, None)(left_to_right([3, 4]))
    assert torch.equal(plain[2], torch.from_numpy(push))


def test_vectors_come_from_files_of_all_kinds(tmp_path):
    torch.save(torch.ones(32), tmp_path / "one.pt")
    torch.save({"1": torch.ones(32), "direction.1": torch.zeros(32)}, tmp_path / "blocks.pt")
    save_file({"direction.0": torch.ones(32)}, tmp_path / "its.safetensors")
    assert read_vector(tmp_path / "one.pt").shape == (32,)
    assert sorted(read_vector(tmp_path / "blocks.pt").directions) == [1, 2]
    assert sorted(read_vector(tmp_path / "its.safetensors").directions) == [1]
    assert as_vector([1, 2], "a").tolist() == [1, 2]
    assert tiled((1.0, 2.0, 3.0), 7).tolist() == [1, 2, 3, 1, 2, 3, 1]


class Evil:
    def __reduce__(self):
        return (shutil.rmtree, ("/nowhere-at-all",))


def test_no_code_of_a_vector_file_is_run(tmp_path):
    torch.save(Evil(), tmp_path / "evil.pt")
    (tmp_path / "odd.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"evil.pt is no file of tensors \(it holds more than tensors, and no code"):
        read_vector(tmp_path / "evil.pt")
    for name in ("evil.pt", "odd.pt", "none.pt"):
        with pytest.raises(UserError):
            read_vector(tmp_path / name)


# --- Configuration -------------------------------------------------------------------------------------------

EXAMPLE = """
analysis:
  num_sentences: 10
  temperature: 1.0
  use_sampling: false
  compare_control: true  # Enable comparative analysis
  control:
    enabled: true
    control_vectors:
      positive: [0.1, 0.2, 0.3]  # Control direction
      negative: [-0.1, -0.2, -0.3]
    layer_weights: [1.0, 1.2, 1.5]  # Layer-wise scaling
    token_weights: [1.0, 1.2, 1.5]  # Position-based scaling

models:
  gpt2:
    name: "gpt2"
    output_hidden_states: true
  bert:
    name: "google-bert/bert-base-uncased"
    output_hidden_states: true
"""


def test_the_example_of_llm_entropy_is_read(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(EXAMPLE)
    config = read_config(file)
    assert config.analysis.compare_control and config.analysis.control.layer_weights == (1.0, 1.2, 1.5)
    assert config.analysis.control.control_vectors.pattern() == pytest.approx((0.1, 0.2, 0.3))
    assert [entry.name for entry in config.models.values()] == ["gpt2", "google-bert/bert-base-uncased"]
    file.write_text("")
    assert read_config(file).analysis.num_sentences is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("analysis: {num_sentences: 0}", "num_sentences"),
        ("analysis: {num_sentences: ten}", "num_sentences"),
        ("analysis: {temprature: 1}", "temprature"),
        ("- a", "not as it should be"),
        ("a: [", "is no YAML at line 1"),
        ("a: !!python/object/apply:os.system ['true']", "is no YAML"),
        ("models: {a: {}}", "name"),
        ("\x00", "is no YAML"),
    ],
)
def test_a_configuration_that_is_wrong_is_told(tmp_path, text, words):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=words):
        read_config(file)


def test_files_have_names_that_are_names():
    assert label("org/Model-1.5B") == "Model-1.5B" and label("../../etc/x y") == "x_y"
    assert label("..") == "model" and label("a", ["a"]) == "a_2"
