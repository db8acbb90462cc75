"""`compare`: two models, or one under two settings, on one text."""

from __future__ import annotations

import json

import promises
import pytest
from tried_commands import TRUSTED, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


@runs(
    "tui-entropy compare . notes.txt --dtype-b bfloat16",
    "tui-entropy compare . notes.txt --vector-b happy.gguf:1.5 --output happy.json",
    "tui-entropy results happy.json",
)
def test_tokens_where_two_part_most_open_side_by_side(texts, vector_files, line):
    if "results" in line and not (texts.folder / "happy.json").exists():
        kept = "tui-entropy compare . notes.txt --vector-b happy.gguf:1.5 --output happy.json --headless"
        assert texts.run(kept).code == 0
    with texts.screen(line) as terminal:
        terminal.wait_for("KL of B from A", promises.SECONDS)
        terminal.press("enter")
        terminal.wait_for("where they part most")
        terminal.press("enter")
        terminal.wait_for("candidates side by side")
        terminal.press("q")
        assert terminal.wait(promises.SECONDS) == 0


EVERY_COMPARISON = (
    "tui-entropy compare . words.txt --model ./named --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--products columns --chat-template short --dtype-b float32 --vector flat.safetensors:1 "
    "--vector-b flat.safetensors:2 --prompt once --prompt-b twice --limit 100 --bos without --output both.json "
    "--plot both.svg --headless --nats --theme light --color mono --ascii"
)


@runs(
    EVERY_COMPARISON,
    f"tui-entropy compare . words.txt {TRUSTED} --json --bits",
    "tui-entropy compare ./original ./tuned --text notes.txt --headless",
)
def test_comparison_with_every_option(texts, line):
    done = texts.run(line)
    assert done.code == 0, done.err
    if "--json" in line:
        told = json.loads(done.out)
        assert told["same_top"] == 1 and told["spreads"][0]["most"] < 1e-6
    elif "tuned" in line:
        assert "both hold the same one" in done.out.replace("\n", " ")
    else:
        assert "behind a prompt" in done.out.replace("\n", " ") and done.out.isascii()
        assert "<svg" in (texts.folder / "both.svg").read_text() and (texts.folder / "both.json").stat().st_size


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tui-entropy compare ./original --headless", "takes a text beside the second model"),
        ("tui-entropy compare a b c --text notes.txt --headless", "two models beside --text"),
        ("tui-entropy compare a b --text notes.txt --model c --headless", "name it once"),
    ],
)
def test_what_is_compared_is_named_once_and_with_a_text(texts, line, said):
    wrong = texts.run(line)
    assert wrong.code in (2, 3) and said in wrong.err.replace("\n", " ")


def test_models_of_two_vocabularies_are_not_compared(texts):
    wrong = texts.run("tui-entropy compare ./original notes.txt --headless")
    assert wrong.code == 3 and "vocabularies that differ" in wrong.err
