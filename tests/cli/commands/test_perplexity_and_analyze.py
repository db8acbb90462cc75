"""`perplexity` and `analyze`: texts by the hundred."""

from __future__ import annotations

import csv
import json
import re

import msgspec
import pytest
import small
from transformers import AutoTokenizer
from tried_commands import MODEL, WORDS, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


EVERY_TEXT_OPTION = (
    "--field said --json --model ./named --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--products columns --chat-template short"
)
DOCUMENTS = '{"said": "abc def"}\n{"said": 1}\n{"said": "ghi jkl mno"}\n'


@runs("tui-entropy perplexity book.txt")
def test_the_perplexity_of_a_text_is_that_of_plain_transformers(shell, line):
    text = WORDS * 2
    (shell.folder / "book.txt").write_text(text)
    done = shell.run(line)
    assert done.code == 0, done.err
    import torch
    from transformers import AutoModelForCausalLM

    ids = AutoTokenizer.from_pretrained(MODEL)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)(input_ids=ids, labels=ids).loss
    told = float(re.search(r"token perplexity +([\d.]+)", done.out)[1])
    assert told == pytest.approx(float(loss.double().exp()), rel=1e-4)
    assert "log-likelihood" in done.out and f"{ids.shape[1] - 1} of {ids.shape[1]} tokens scored" in done.out


@runs(
    f"tui-entropy perplexity documents.jsonl --window 8 --stride 3 --bos with {EVERY_TEXT_OPTION}",
    "tui-entropy perplexity - --bos without --model ./named --trust-remote-code --graph",
    "tui-entropy analyze documents.jsonl --config small.yaml --num-sentences 9 --temperature 2 --use-sampling "
    f"--seed 5 --control-vector push.pt --compare-control --output out --scores all --samples 3 --sample-tokens 4 "
    f"--members 2 {EVERY_TEXT_OPTION}",
    "tui-entropy analyze - --model ./named --trust-remote-code --graph --no-sampling --no-compare",
    "tui-entropy analyze sentences.txt --config comparative.yaml",
    "tui-entropy analyze sentences.txt --scores tokens,samples",
)
def test_texts_are_scored_with_every_option(shell, line):
    import torch

    small.saved_with_two_templates(shell.folder / "named")
    (shell.folder / "documents.jsonl").write_text(DOCUMENTS)
    (shell.folder / "sentences.txt").write_text("abc def\nghi\n")
    (shell.folder / "small.yaml").write_text("analysis: {temperature: 1.5}\n")
    (shell.folder / "comparative.yaml").write_text(
        "analysis: {compare_control: true, control: {enabled: true, control_vectors: {positive: [1, 2]}}}\n"
        "models: {tiny: {name: ./named}}\n"
    )
    torch.save(torch.ones(32), shell.folder / "push.pt")
    done = shell.run(line if " - " not in line else f"cat sentences.txt | {line}")
    assert done.code == 0, done.err
    if "--json" in line:
        told = json.loads(done.out)
        assert "documents.jsonl line 2 is left out: its 'said' is no text" in done.err
        assert told["begins_with" if "mode" not in told else "mode"] in ("with", "comparative")
        if "mode" in told:
            (folder,) = (shell.folder / "out").glob("run_*")
            rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
            assert [row["Analysis"] for row in rows] == ["standard"] * 2 + ["control"] * 2
            assert float(rows[0]["Vectors.total"]) > 0 and float(rows[2]["SemanticEntropyEmpirical"]) >= 0
    elif "analyze" in line:
        folder = shell.folder / done.out.strip()
        assert json.loads((folder / "summary.json").read_text())["mode"] == (
            "comparative" if "--config" in line else "standard"
        )
        assert (folder / "scores.csv").exists() == ("--scores" in line)
    else:
        assert "begins with nothing" in done.out


@runs(
    "tui-entropy analyze",
    "tui-entropy analyze --compare-control --control-vector warm.pt",
    "tui-entropy analyze --resume analysis_outputs/run_20261130_120000_0123abcd",
)
def test_an_analysis_of_the_sample_is_written_and_gone_on_with(shell, line):
    import torch

    torch.save(torch.zeros(576), shell.folder / "warm.pt")
    if "--resume" in line:
        from tui_entropy.analysis.corpus import analyze
        from tui_entropy.analysis.corpus.entries import Entry
        from tui_entropy.analysis.corpus.run_folder import RunFolder

        entries = [Entry("line 1", "The capital of France is Paris.")]
        settings = analyze.settings_of(entries, 1.0, False, False, False, str(MODEL), 0)
        run = msgspec.structs.replace(settings, run_id="20261130_120000_0123abcd")
        RunFolder.create(shell.folder / "analysis_outputs", run)
    done = (shell.cold if line == "tui-entropy analyze" else shell).run(line)
    assert done.code == 0, done.err
    folder = shell.folder / done.out.strip()
    (name,) = json.loads((folder / "summary.json").read_text())["models"]
    surprisal = json.loads((folder / "summary.json").read_text())["models"][name]
    means = surprisal["control" if "control" in line else "standard"]["layer_surprisals"]["mean"]
    assert len(means) == 31 and means[-1] < min(means[:20])
    if "control" in line:  # a vector of zeros changes nothing
        rows = (folder / "comparative/data" / f"{name}_layer_entropies_comparative.csv").read_text().splitlines()
        assert set(json.loads(rows[3].rpartition('","')[2][:-1])) == {0.0}
    again = shell.run(f"tui-entropy analyze --resume {done.out.strip()}")
    assert again.code == 3 and "is done already" in again.err
