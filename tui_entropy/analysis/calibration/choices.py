"""Questions of several answers, read from the files that common sets come in: one JSON object a line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import bytes_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GZIP = b"\x1f\x8b"


class Option(NamedTuple):
    """One of the answers."""

    prompt: str
    """What stands before it."""
    answer: str
    """As it is written behind that, with the space that stands between."""


class Question(NamedTuple):
    options: tuple[Option, ...]
    right: int
    """Place of the right one."""


class Questions(NamedTuple):
    questions: list[Question]
    left_out: list[str]
    """Sentences on lines that hold none."""


class _No(Exception):
    """Why a line holds no question."""


def questions_in(name: str) -> Questions:
    """Those of a .jsonl file, which may be gzipped. A line that holds none is named and left out. Raises UserError
    where no line holds one."""
    text = text_in(Path(name))
    questions, left_out = _requests(text, name)
    if not questions:
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                questions.append(_question(line))
            except _No as reason:
                left_out.append(f"line {number} of {name} is left out: {reason}")
    if not questions:
        first = f" ({left_out[0]})" if left_out else ""
        raise UserError(
            f"{name} holds no question{first}: write one JSON object a line, such as "
            '{"question": "…", "choices": ["…", "…"], "answer": 0}'
        )
    return Questions(questions, left_out)


def text_in(path: Path) -> str:
    try:
        data = bytes_of(path)
        return (gzip.decompress(data) if data.startswith(GZIP) else data).decode()
    except (OSError, EOFError, zlib.error) as refused:
        reason = getattr(refused, "strerror", None) or refused
        raise UserError(f"{path} cannot be read ({reason}): name a .jsonl file") from refused
    except UnicodeDecodeError as odd:
        raise UserError(f"{path} is no UTF-8 (byte {odd.start + 1} is no part of it): convert it") from odd


def _question(line: str) -> Question:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise _No(f"it is no JSON ({error})") from None
    if not isinstance(fields, dict):
        raise _No("it is no JSON object")
    for has, read in FORMATS:
        if all(name in fields for name in has):
            try:
                return _checked(*read(fields))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError):
                raise _No(f"its {', '.join(has)} cannot be understood") from None
    raise _No(
        f"it has {', '.join(map(str, fields)) or 'nothing'}, and none of the known kinds of questions has just those"
    )


def _checked(prompt: str | Sequence[str], answers: Sequence[str], right: int) -> Question:
    """prompt: one for all answers, or one for each."""
    prompts = [prompt] * len(answers) if isinstance(prompt, str) else prompt
    options = tuple(_option(*pair) for pair in zip(prompts, answers, strict=True))
    if len(options) < 2 or not 0 <= right < len(options):
        raise ValueError
    return Question(options, right)


def _option(prompt: str, answer: str) -> Option:
    if not isinstance(prompt, str) or not isinstance(answer, str) or not answer.strip():
        raise ValueError
    return Option(prompt, answer if answer[0].isspace() or prompt[-1:].isspace() or not prompt else f" {answer}")


def _asked(question: str) -> str:
    return f"Question: {question.strip()}\nAnswer:"


def _place(right: Any, answers: Sequence[str], labels: Sequence[Any] = LETTERS) -> int:
    """Place of the right answer, given as a place, a label or the answer itself."""
    if isinstance(right, bool) or not isinstance(right, int | str):
        raise ValueError
    if isinstance(right, int):
        return right
    if right in labels:
        return list(labels).index(right)
    return list(answers).index(right) if right in answers else int(right)


Read = Callable[[Mapping[str, Any]], tuple[str | Sequence[str], Sequence[str], int]]


def _arc(fields: Mapping[str, Any]) -> tuple[str, Sequence[str], int]:
    """ARC and OpenBookQA, CommonsenseQA: choices with labels, in the question or beside it."""
    question = fields["question"]
    stem = question["stem"] if isinstance(question, dict) else question
    given = question["choices"] if isinstance(question, dict) else fields["choices"]
    choices = given if isinstance(given, list) else [
        {"text": text, "label": label} for text, label in zip(given["text"], given["label"], strict=True)
    ]  # fmt: skip
    texts, labels = [one["text"] for one in choices], [one["label"] for one in choices]
    return _asked(stem), texts, labels.index(fields["answerKey"])


def _plain(fields: Mapping[str, Any]) -> tuple[str, Sequence[str], int]:
    """MMLU, and what is written by hand."""
    return _asked(fields["question"]), fields["choices"], _place(fields["answer"], fields["choices"])


def _context(fields: Mapping[str, Any]) -> tuple[str, Sequence[str], int]:
    """A text as it is, and what may follow."""
    return fields["context"], fields["choices"], _place(fields["answer"], fields["choices"])


def _hellaswag(fields: Mapping[str, Any]) -> tuple[str, Sequence[str], int]:
    return fields["ctx"], fields["endings"], int(fields["label"])


def _piqa(fields: Mapping[str, Any]) -> tuple[str, Sequence[str], int]:
    return _asked(fields["goal"]), [fields["sol1"], fields["sol2"]], int(fields["label"])


def _winogrande(fields: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[str], int]:
    """The rest of the sentence behind either filling of its gap."""
    before, after = fields["sentence"].split("_", 1)
    prompts = [f"{before}{fields[name]}" for name in ("option1", "option2")]
    return prompts, [after, after], int(fields["answer"]) - 1


def _boolq(fields: Mapping[str, Any]) -> tuple[str, Sequence[str], int]:
    if not isinstance(fields["answer"], bool):
        raise ValueError
    asked = f"{fields['passage'].strip()}\nQuestion: {fields['question'].strip()}?\nAnswer:"
    return asked, ["yes", "no"], 0 if fields["answer"] else 1


def _sciq(fields: Mapping[str, Any]) -> tuple[str, Sequence[str], int]:
    wrong = [fields[f"distractor{n}"] for n in (1, 2, 3)]
    return _asked(fields["question"]), [fields["correct_answer"], *wrong], 0


def _social(fields: Mapping[str, Any]) -> tuple[str, Sequence[str], int]:
    asked = f"{fields['context'].strip()} {fields['question'].strip()}"
    return _asked(asked), [fields[f"answer{letter}"] for letter in "ABC"], int(fields["label"]) - 1


FORMATS: tuple[tuple[tuple[str, ...], Read], ...] = (
    (("question", "answerKey"), _arc),
    (("ctx", "endings", "label"), _hellaswag),
    (("goal", "sol1", "sol2", "label"), _piqa),
    (("sentence", "option1", "option2", "answer"), _winogrande),
    (("passage", "question", "answer"), _boolq),
    (("question", "correct_answer", "distractor1"), _sciq),
    (("context", "question", "answerA", "answerB", "answerC", "label"), _social),
    (("question", "choices", "answer"), _plain),
    (("context", "choices", "answer"), _context),
)
"""Fields of a line -> how it is read; the first that fits."""


def _requests(text: str, name: str) -> tuple[list[Question], list[str]]:
    """Requests as OLMES keeps them, one answer a line: `request` with what stands before an answer and the answer,
    `idx` with its place. Behind a bare "Answer:" the answers stand once more, to be scored without the question:
    those do not count."""
    asked: dict[Any, dict[int, tuple[str, str]]] = {}
    right: dict[Any, Any] = {}
    for fields in _objects(text):
        try:
            request, key, at = fields["request"], fields["doc_id"], fields["idx"]
            prompt, answer = request["context"], request["continuation"]
            gold = fields["doc"].get("gold", fields.get("label"))
        except (KeyError, TypeError, AttributeError):
            return [], []
        if str(prompt).strip() != "Answer:":
            asked.setdefault(key, {})[at] = prompt, answer
            right[key] = fields.get("label") if isinstance(fields.get("label"), int) else gold
    questions, left_out = [], []
    for key, options in asked.items():
        try:
            prompts, answers = zip(*(options[at] for at in range(len(options))), strict=True)
            questions.append(_checked(prompts, answers, int(right[key])))
        except (KeyError, TypeError, ValueError):
            left_out.append(f"question {key} of {name} is left out: its answers are not whole")
    return questions, left_out


def _objects(text: str) -> Iterator[Any]:
    for line in text.splitlines():
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                yield None
