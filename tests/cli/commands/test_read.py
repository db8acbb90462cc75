"""`read`: a text that is there, scored and opened."""

from __future__ import annotations

import json
import re

import numpy as np
import promises
import pytest
import small
from promises import assert_right, recorded
from transformers import AutoTokenizer
from tried_commands import MODEL, NOTES, TURNED, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


@runs(
    "tui-entropy read notes.txt --headless --jsonl > read.jsonl",
    "tui-entropy read notes.txt --headless --jsonl --no-trace --raw "
    + TURNED
    + "--vector happy.gguf:0 --ablate 3.1=1 "
    "--break 'step > 900' --watch ' Yes' --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--model smollm2 --products columns --max-tokens 4 > read.jsonl",
)
def test_a_text_is_scored_as_plain_transformers_score_it(notes, vector_files, line):
    done = notes.run(line)
    assert done.code == 0, done.err
    lines = [json.loads(text) for text in (notes.folder / "read.jsonl").read_text().splitlines()]
    (header,) = (one["header"] for one in lines if "header" in one)
    steps = [one for one in lines if "index" in one]
    assert len(header["prompt_ids"]) == 1
    first = AutoTokenizer.from_pretrained(MODEL).decode(header["prompt_ids"])
    assert first + "".join(one["text"] for one in steps) == NOTES
    names = ("entropy_nats", "varentropy_nats2", "surprisal_nats", "rank")
    found = np.array([[one[name] for name in names] for one in steps])
    wanted = promises.expected(MODEL, header["prompt_ids"], [one["token_id"] for one in steps])
    np.testing.assert_allclose(found[:, :3], wanted[:, :3], atol=3e-4, rtol=1e-4)
    least = {one["text"]: one["surprisal_nats"] for one in steps}
    assert least[" Berlin"] > least[" Rome"] > 0
    (end,) = (one["end"] for one in lines if "end" in one)
    assert end["reason"] == "the text is read" and not any("proposed" in one for one in lines)


@runs('echo "Once upon a time there was a fox." | tui-entropy read - --headless')
def test_what_a_text_comes_to_is_said_and_recorded(notes, line):
    done = notes.run(line)
    assert done.code == 0, done.err
    session = recorded(notes.newest)
    assert_right(session, MODEL)
    nats = session.numbers[:, 2]
    n, perplexity, bits, _ = re.findall(r"[\d.]+", done.out)
    assert int(n) == len(session.tokens) and float(perplexity) == pytest.approx(np.exp(nats.mean()), rel=1e-3)
    assert float(bits) == pytest.approx(nats.mean() / np.log(2), rel=1e-3)


@runs(
    "tui-entropy read notes.txt",
    "tui-entropy read chat.json",
    "tui-entropy read notes.txt --no-headless --theme light --color 256 --ascii --no-mouse --no-diff --keep 0 "
    "--on-leave stop --kept-cache 0 --record-attention off --trace looked.tui --demo",
    "tui-entropy read notes.txt --chat --mouse --diff --trust-remote-code --graph",
)
def test_each_token_of_a_text_is_opened_on_the_screen(notes, line):
    with notes.screen(line) as terminal:
        terminal.wait_for("the text is read", promises.SECONDS)
        terminal.press("left", "left")
        terminal.wait_for(re.compile(r"layer \d+ head \d+ . entropy [\d.]+|←|left|<-"), 60)
        terminal.press("q")
        assert terminal.wait(60) == 0
    path = notes.folder / "looked.tui" if "looked.tui" in line else notes.newest
    session = recorded(path)
    assert_right(session, MODEL)
    (started,) = [event for kind, event in session.events if kind == "started"]
    assert started["n_given"] == len(session.tokens)
    wanted = "chat.json" in line or "--chat" in line
    assert wanted == started["prompt"].startswith("<|im_start|>")


@runs(
    "tui-entropy read notes.txt --headless --no-trace --model ./named --chat-template short --chat",
    "tui-entropy read notes.txt --headless --no-trace --model ./named --raw",
)
def test_a_text_is_read_by_a_model_of_ones_own(notes, line):
    small.saved_with_two_templates(notes.folder / "named")
    done = notes.run(line)
    assert done.code == 0 and re.fullmatch(r"\d+ tokens after the first · perplexity [\d.]+ · .*\n", done.out), (
        done.out
    )
    wrong = notes.run(line.replace("notes.txt", "nowhere.txt"))
    assert wrong.code == 3 and "nowhere.txt cannot be read" in wrong.err
