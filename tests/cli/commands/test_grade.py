"""`grade`: which scores tell wrong sentences from right ones."""

from __future__ import annotations

import json

import promises
import pytest
from tried_commands import LINES, TRUSTED, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


EVERY_GRADING = (
    "tui-entropy grade graded.jsonl --model ./named --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--products columns --chat-template short --scores all --samples 3 --sample-tokens 4 --members 2 "
    "--vector flat.safetensors:1 --seed 3 --limit 300 --bos with --output grades.json --plot grades.png --headless "
    "--nats --theme light --color mono --ascii"
)
AGAIN = "tui-entropy results grades.json --headless --nats --ascii --theme light --color mono"
LINES.append(AGAIN)


@runs(EVERY_GRADING, f"tui-entropy grade graded.jsonl {TRUSTED} --json --bits")
def test_grading_with_every_option(texts, line):
    lines = [{"prompt": "abc", "sentence": word, "correct": word < "d"} for word in ("abc", "cab", "def", "fed")]
    (texts.folder / "graded.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines) + "nothing\n")
    done = texts.run(line)
    assert done.code == 0 and "line 5 of graded.jsonl is left out: it is no JSON" in done.err, done.err
    if "--json" in line:
        told = json.loads(done.out)
        assert (told["n"], told["n_wrong"]) == (4, 2) and all(0 <= one["auroc"] <= 1 for one in told["scores"])
        return
    assert done.out.isascii() and "Vectors.epistemic" in done.out and "2 of 4 sentences wrong" in done.out
    again = texts.run(AGAIN)
    assert again.out == done.out and (texts.folder / "grades.png").read_bytes().startswith(b"\x89PNG")


@runs("tui-entropy grade questions.jsonl", "tui-entropy grade graded.jsonl --scores all --headless --plot grades.svg")
def test_a_graded_answer_opens_in_the_inspector(texts, line):
    graded = {"prompt": "The sky is", "sentence": "blue", "correct": True}
    (texts.folder / "graded.jsonl").write_text(json.dumps(graded) + "\n")
    if "--headless" in line:
        done = texts.run(line.replace("--scores all", "--scores all --model ./named"))
        assert done.code == 0 and "<svg" in (texts.folder / "grades.svg").read_text(), done.err
        return
    with texts.screen(line) as terminal:
        terminal.wait_for("AUROC", promises.SECONDS)
        terminal.press("enter")
        terminal.wait_for("behind")
        terminal.press("enter")
        terminal.wait_for("a chair")
        terminal.press("enter")
        terminal.wait_for("the text is read", promises.SECONDS)
        terminal.press("q")
        terminal.wait_for("enter in the inspector", promises.SECONDS)
        terminal.press("q")
        assert terminal.wait(promises.SECONDS) == 0
