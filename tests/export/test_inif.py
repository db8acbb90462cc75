"""INIF: read by the format's own package."""

import json

import exports
import inif
import pytest
from msgspec.structs import replace
from scripted import started, step

from tui_entropy.export import inif as ours


@pytest.fixture
def document(tmp_path):
    return inif.from_dict(json.loads(exports.exported(ours.write, exports.trace(tmp_path / "run.tui"))))


def test_the_formats_own_package_reads_prompt_and_text(document):
    (sample,) = document.samples
    assert document.metadata.model.name == "tiny" and document.metadata.created_at is not None
    assert [token.id for token in sample.tokens] == [0, 1, 2, *range(100, 106)]
    assert "".join(token.token for token in sample.tokens) == "The capital is" + "".join(exports.WORDS)
    assert sample.texts == ["The capital is", "".join(exports.WORDS)]
    assert (sample.input_tokens, sample.output_tokens) == (3, 6)


def test_tokens_carry_their_numbers_and_only_those_they_have(document):
    prompt, written = document.samples[0].tokens[0], document.samples[0].tokens[3]
    assert written.entropy_nats == step(0).entropy and written.bytes == b" Paris".hex()
    assert [one["id"] for one in written.candidates] == [100, 7] and written.candidates[1]["cut"] == "top_p"
    assert not hasattr(prompt, "entropy_nats") and not hasattr(written, "entropy_z")


def test_prompt_text_and_changes_are_spans(document):
    spans = {span.name: span.positions for span in document.samples[0].spans}
    assert spans == {"prompt": [0, 1, 2], "written": list(range(3, 9)), "T 0.7→1.2": [4]}


def test_what_each_run_of_a_lineage_wrote_is_a_span(tmp_path):
    branch = [replace(started(2), parent=1, shared=4), step(4, " a", 2), step(5, " b", 2)]
    made = json.loads(exports.exported(ours.write, exports.trace(tmp_path / "a.tui", exports.events(), branch)))
    (sample,) = inif.from_dict(made).samples
    spans = {span.name: span.positions for span in sample.spans}
    assert spans["run 1"] == [3, 4, 5, 6] and spans["run 2"] == [7, 8] and spans["branch of run 1"] == [7]
    assert sample.texts[1] == "".join(exports.WORDS[:4]) + " a b"


def test_its_pages_and_selections_work(document):
    (found,) = inif.select_by_span(document.samples[0], "T 0.7→1.2").tokens
    assert found.token == "=1+1"
    assert "=1+1" in inif.render_html(document)
