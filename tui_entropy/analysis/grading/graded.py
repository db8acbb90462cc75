"""Graded sets: sentences of which somebody has said whether they are right, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tui_entropy.analysis.calibration.choices import Question, questions_in, text_in
from tui_entropy.core.errors import UserError

SENTENCE = ("sentence", "answer", "text")
"""What the field may be called; the first that is there."""


class GradedSentence(NamedTuple):
    prompt: str
    """What stands before it; empty for none."""
    sentence: str
    """As it is written behind that, with the space that stands between."""
    correct: bool


class GradedSet(NamedTuple):
    sentences: list[GradedSentence]
    questions: list[Question]
    """Where the file has those in place of sentences: right is a question whose most likely answer is."""
    left_out: list[str]
    """Sentences on lines that hold nothing."""


def graded_set(name: str) -> GradedSet:
    """Read a .jsonl file, which may be gzipped: lines with `correct`, or else questions of several answers. A line
    that holds nothing is named and left out. Raises UserError where no line holds anything."""
    sentences, left_out = [], []
    for number, line in enumerate(text_in(Path(name)).splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            left_out.append(f"line {number} of {name} is left out: it is no JSON")
            continue
        found = _sentence(fields) if isinstance(fields, dict) else "it is no JSON object"
        if isinstance(found, GradedSentence):
            sentences.append(found)
        else:
            left_out.append(f"line {number} of {name} is left out: {found}")
    if sentences:
        return GradedSet(sentences, [], left_out)
    try:
        questions = questions_in(name)
    except UserError:
        first = f" ({left_out[0]})" if left_out else ""
        raise UserError(
            f"{name} holds nothing that is graded{first}: write one JSON object a line, such as "
            '{"prompt": "…", "sentence": "…", "correct": true}, or questions as of calibrate --choices'
        ) from None
    return GradedSet([], *questions)


def graded_rows(rows: Iterable[object]) -> GradedSet:
    """The same of objects that are there. Raises UserError where none of them holds anything."""
    sentences, left_out = [], []
    for number, row in enumerate(rows, 1):
        found = _sentence(row) if isinstance(row, Mapping) else "it is no mapping"
        if isinstance(found, GradedSentence):
            sentences.append(found)
        else:
            left_out.append(f"row {number} is left out: {found}")
    if not sentences:
        first = f" ({left_out[0]})" if left_out else ""
        raise UserError(f"there is nothing to grade{first}: give mappings with a sentence and whether it is correct")
    return GradedSet(sentences, [], left_out)


def _sentence(fields: Mapping[str, Any]) -> GradedSentence | str:
    """Or why there is none."""
    correct, prompt = fields.get("correct"), fields.get("prompt", "")
    if not isinstance(correct, bool):
        return "its 'correct' is neither true nor false" if "correct" in fields else "it has no field 'correct'"
    sentence = next((fields[name] for name in SENTENCE if name in fields), None)
    if not isinstance(sentence, str) or not isinstance(prompt, str):
        return f"it has no text as one of {', '.join(SENTENCE)}"
    if not sentence.strip():
        return "its sentence is empty"
    if not _encodable(prompt + sentence):
        return "it is no UTF-8"
    spaced = not prompt or prompt[-1].isspace() or sentence[0].isspace()
    return GradedSentence(prompt, sentence if spaced else f" {sentence}", correct)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
