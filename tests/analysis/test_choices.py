"""Questions of several answers: every kind of file that is known, and lines that are none."""

import gzip
import json

import pytest

from tui_entropy.analysis.calibration.choices import FORMATS, questions_in
from tui_entropy.core.errors import UserError

SKY = "Question: What colour is the sky?\nAnswer:"
ASKED = {"question": "What colour is the sky?"}
KINDS = {
    "arc": ({"question": {"stem": "What colour is the sky?", "choices": [{"text": "red", "label": "A"},
            {"text": "blue", "label": "B"}]}, "answerKey": "B"}, SKY),
    "arc of the hub": (ASKED | {"choices": {"text": ["red", "blue"], "label": ["1", "2"]}, "answerKey": "2"}, SKY),
    "hellaswag": ({"ctx": "The sky is", "endings": ["red", "blue"], "label": "1"}, "The sky is"),
    "piqa": ({"goal": "What colour is the sky?", "sol1": "red", "sol2": "blue", "label": 1}, SKY),
    "boolq": ({"passage": "It is dark.", "question": "is it light", "answer": False},
              "It is dark.\nQuestion: is it light?\nAnswer:"),
    "sciq": (ASKED | {"correct_answer": "blue", "distractor1": "red", "distractor2": "x", "distractor3": "y"}, SKY),
    "socialiqa": ({"context": "Ann looks up.", "question": "What does she see?", "answerA": "red", "answerB": "blue",
                   "answerC": "x", "label": "2"}, "Question: Ann looks up. What does she see?\nAnswer:"),
    "mmlu": (ASKED | {"choices": ["red", "blue"], "answer": 1}, SKY),
    "by letter": (ASKED | {"choices": ["red", "blue"], "answer": "B"}, SKY),
    "by answer": (ASKED | {"choices": ["red", "blue"], "answer": "blue"}, SKY),
    "context": ({"context": "The sky is ", "choices": ["red", "blue"], "answer": 1}, "The sky is "),
}  # fmt: skip


def written(path, lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(tmp_path, kind):
    line, prompt = KINDS[kind]
    (question,) = questions_in(written(tmp_path / "q.jsonl", [line])).questions
    right = {"boolq": "no"}.get(kind, "blue")
    assert question.options[question.right].answer.strip() == right
    assert {option.prompt for option in question.options} == {prompt}
    assert all((option.prompt + option.answer).count("  ") == 0 for option in question.options)


def test_every_kind_has_an_example_here():
    for has, _ in FORMATS:
        lines = [line for line, _ in KINDS.values()] + [{"sentence": "", "option1": "", "option2": "", "answer": "1"}]
        assert any(all(name in line for name in has) for line in lines), has


def test_the_rest_of_a_sentence_follows_either_filling(tmp_path):
    line = {"sentence": "Sarah beat Maria, so _ lost.", "option1": "Sarah", "option2": "Maria", "answer": "2"}
    (question,) = questions_in(written(tmp_path / "q.jsonl", [line])).questions
    assert [tuple(option) for option in question.options] == [
        ("Sarah beat Maria, so Sarah", " lost."), ("Sarah beat Maria, so Maria", " lost."),
    ]  # fmt: skip
    assert question.right == 1


def test_requests_one_answer_a_line_without_those_behind_a_bare_answer(tmp_path):
    def request(doc, at, context, answer):
        asked = {"context": context, "continuation": answer}
        return {"doc": {"query": "What?", "gold": 1}, "doc_id": doc, "idx": at, "request": asked, "label": 1}

    lines = [request(0, at, "Question: What?\nAnswer:", f" {at}") for at in (0, 1)]
    lines += [request(1, at, "Answer:", f" {at}") for at in (0, 1)]
    path = tmp_path / "requests.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    (question,) = questions_in(str(path)).questions
    assert question.right == 1 and [option.answer for option in question.options] == [" 0", " 1"]


def test_a_line_that_holds_none_is_named_and_left_out(tmp_path):
    good = KINDS["mmlu"][0]
    lines = [
        good, "", "{", "[1]", {"a": 1}, good | {"answer": 2}, good | {"answer": True}, good | {"choices": ["one"]},
        good | {"choices": ["", "b"]}, good | {"choices": [1, 2]}, good | {"answer": None}, good,
    ]  # fmt: skip
    found = questions_in(written(tmp_path / "q.jsonl", lines))
    assert len(found.questions) == 2
    assert [sentence.split(" of ")[0] for sentence in found.left_out] == [f"line {n}" for n in range(3, 12)]


@pytest.mark.parametrize("content", [b"", b"no json", b"\xff\xfe", b"\x1f\x8b broken", b"{}\n" * 5])
def test_a_file_without_a_question_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "q.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"q\.jsonl"):
        questions_in(str(tmp_path / "q.jsonl"))


@pytest.mark.parametrize("name", ["none.jsonl", "/dev/zero", "."])
def test_what_is_no_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        questions_in(name)
