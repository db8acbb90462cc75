"""Perplexity against the recipe of transformers' own pages and lm-evaluation-harness's formulas; odd documents."""

from __future__ import annotations

import json
import math
import re

import pytest
import small
import torch

from tui_entropy.analysis.corpus.entries import Entry, documents, sentences
from tui_entropy.analysis.corpus.perplexity import as_fields, perplexity_of, report
from tui_entropy.core.errors import UserError

TEXT = "".join(chr(65 + (n * n + n // 7) % 26) + "!" * (n % 9 == 0) for n in range(150))


@pytest.fixture(scope="module")
def llama():
    return small.loaded("llama")


def recipe(model, ids, max_length, stride):
    """The sum of ln p and how many tokens it is of, by labels that hide what is scored already."""
    total, n, last = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + max_length, len(ids))
        part = torch.tensor([ids[begin:end]])
        labels = part.clone()
        labels[:, : max(last - begin, 0)] = -100
        with torch.no_grad():
            logits = model(input_ids=part).logits[0, :-1].double()
        wanted = labels[0, 1:]
        loss = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum")
        total -= float(loss)
        n += int((wanted != -100).sum())
        last = end
        if end == len(ids):
            break
    return total, n


@pytest.mark.parametrize(("width", "stride"), [(256, 128), (40, 20), (40, 7), (33, 32), (2, 1)])
def test_windows_come_to_what_the_plain_recipe_says(llama, width, stride):
    (document,) = perplexity_of(llama, iter([Entry("a", TEXT)]), width, stride).documents
    ids = llama.tokenizer.encode(TEXT, None, False)
    total, n = recipe(llama.model, ids, width, stride)
    assert document.n_scored == n == len(ids) - 1
    assert document.log_likelihood == pytest.approx(total, rel=1e-6)
    assert document.rates()["token_perplexity"] == pytest.approx(math.exp(-total / n), rel=1e-5)


def test_words_and_bytes_are_those_of_lm_evaluation_harness(llama):
    texts = "AB CD\nEF  GH", " ".join(TEXT[at : at + 4] for at in range(0, 120, 4))
    found = perplexity_of(llama, iter([Entry("a", text) for text in texts]), bos="with")
    for document, its in zip(found.documents, texts, strict=True):
        n_words, n_bytes, ll = len(re.split(r"\s+", its)), len(its.encode()), document.log_likelihood
        rates = document.rates()
        assert rates["word_perplexity"] == pytest.approx(math.exp(-ll / n_words), rel=1e-12)
        assert rates["byte_perplexity"] == pytest.approx(math.exp(-ll / n_bytes), rel=1e-12)
        assert rates["bits_per_byte"] == pytest.approx(-ll / n_bytes / math.log(2), rel=1e-12)
        assert document.n_scored == document.n_tokens - 1  # with a token before it, each of the text is scored
    total = found.total
    assert total.log_likelihood == pytest.approx(sum(one.log_likelihood for one in found.documents))
    assert as_fields(found)["word_perplexity"] == pytest.approx(math.exp(-total.log_likelihood / total.n_words))


def test_what_a_text_begins_with_is_as_it_is_asked_for(llama):
    lengths = [perplexity_of(llama, iter([Entry("a", TEXT)]), bos=bos).total.n_tokens for bos in ("with", "without")]
    assert lengths[0] == lengths[1] + 1


def test_it_says_which_number_is_which(llama):
    said = report(perplexity_of(llama, iter([Entry("a", TEXT), Entry("b", TEXT)])))
    assert "token perplexity" in said and "log-likelihood" in said and "nats" in said
    assert said.count("\n") > 10 and "nothing comes before the first of each document" in said
    assert "words and bytes are counted in the whole text" in said


@pytest.mark.parametrize(
    ("window", "stride", "words"), [(10, 10, "--stride 10"), (10**6, 2, "--window"), (None, 10**6, "--stride")]
)
def test_a_window_that_does_not_fit_is_refused(llama, window, stride, words):
    with pytest.raises(UserError, match=words):
        perplexity_of(llama, iter([Entry("a", TEXT)]), window, stride)


def test_what_is_no_text_is_left_out_by_name(llama, tmp_path, capsys):
    lines = [{"text": "ABC"}, {"other": 1}, {"text": 5}, {"text": ""}, "DEF", [1], {"text": "A"}]
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\n".join(json.dumps(line).encode() for line in lines) + b"\n{\n" + b'{"text": "\xff"}\n')
    found = perplexity_of(llama, documents(str(file)))
    assert [one.place for one in found.documents] == ["a.jsonl line 1", "a.jsonl line 5"]
    assert [one.place for one in found.left_out] == [f"a.jsonl line {n}" for n in (2, 3, 4, 6, 7, 8, 9)]
    said = capsys.readouterr().err
    assert "line 2 is left out: it has no field 'text'" in said and "line 8 is left out: it is no JSON" in said
    with pytest.raises(UserError, match="no text to score"):
        perplexity_of(llama, iter([Entry("a", "", "it is empty")]))


def test_tables_and_lines_are_read_as_they_are_written(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text('id,said\n1,"one, two"\n2,"over\nlines"\n3\n4,\n5,five\n')
    found = list(sentences(str(table), "said"))
    assert [(one.place, one.text) for one in found if not one.reason] == [
        ("a.csv line 2", "one, two"), ("a.csv line 3", "over\nlines"), ("a.csv line 7", "five"),
    ]  # fmt: skip
    assert [one.reason for one in found if one.reason] == ["it has 1 cells and 'said' is the 2th", "it is empty"]
    with pytest.raises(UserError, match="no column 'text', and it has id, said"):
        list(sentences(str(table)))
    plain = tmp_path / "a.txt"
    plain.write_bytes("\ufefffirst\r\n\n  \nsecond \xe9\n".encode() + b"\xff\xfe\n")
    found = list(sentences(str(plain)))
    assert [one.text for one in found] == ["first", "second \xe9", ""] and found[2].reason == "it is no UTF-8"
    for bad in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(UserError, match="cannot be read"):
            list(sentences(str(bad)))
