"""`calibrate`, and `results` that were kept."""

from __future__ import annotations

import json

import promises
import pytest
from promises import Done, Shell
from tried_commands import LINES, TRUSTED, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


EVERY_CALIBRATION = (
    "tui-entropy calibrate words.txt --model ./named --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--products columns --chat-template short --bins 5 --limit 300 --bos with --output kept.json --plot kept.png "
    "--headless --nats --theme light --color mono --ascii"
)
AGAIN = "tui-entropy results kept.json --headless --nats --ascii --theme light --color mono"
LINES.append(AGAIN)


@pytest.fixture(scope="module")
def calibrated(texts: Shell) -> Done:
    """A calibration with every option, which has kept its results."""
    return texts.run(EVERY_CALIBRATION)


@runs("tui-entropy calibrate notes.txt")
def test_a_bin_opens_and_its_token_is_read_in_the_inspector(texts, line):
    with texts.screen(line) as terminal:
        terminal.wait_for("calibration over tokens", promises.SECONDS)
        terminal.press("enter")
        terminal.wait_for("as it is, bin by bin")
        terminal.press("end")  # the bin of the surest
        terminal.press("enter")
        terminal.wait_for("it said")
        terminal.press("enter")
        terminal.wait_for("the text is read", promises.SECONDS)
        assert "step" in terminal.text
        terminal.press("q")
        terminal.wait_for("it said", promises.SECONDS)
        terminal.press("q")
        assert terminal.wait(promises.SECONDS) == 0


@runs(
    "tui-entropy calibrate notes.txt --headless --json | jq '.sets[0].ece'",
    "tui-entropy calibrate --choices questions.jsonl --limit 200 --headless --plot reliability.svg",
)
def test_calibration_without_a_screen(texts, line):
    done = texts.run(line)
    assert done.code == 0, done.err
    if "jq" in line:
        assert done.out.strip() == "null" or 0 <= float(done.out) <= 1
    else:
        assert "calibration over questions" in done.out and "line 2 of questions.jsonl is left out" in done.err
        assert "<svg" in (texts.folder / "reliability.svg").read_text()


@runs(f"tui-entropy calibrate - {TRUSTED} --json --bits")
def test_calibration_of_standard_input_as_json(texts, line):
    done = texts.run(f"cat words.txt | {line}")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["of"] == "tokens" and told["sets"][0]["n"] == sum(one["n"] for one in told["sets"][0]["bins"])


@runs(EVERY_CALIBRATION)
def test_calibration_with_every_option(texts, calibrated, line):
    assert calibrated.code == 0, calibrated.err
    assert calibrated.out.isascii() and "300" not in calibrated.out.split("as it is")[0]
    assert texts.run(AGAIN).out == calibrated.out
    assert (texts.folder / "kept.png").read_bytes().startswith(b"\x89PNG")


@runs("tui-entropy results kept.json --no-headless --bits --plot again.pdf")
def test_kept_results_are_shown_again(texts, calibrated, line):
    with texts.screen(line) as terminal:
        terminal.wait_for("calibration over tokens", promises.SECONDS)
        terminal.press("q")
        assert terminal.wait(promises.SECONDS) == 0
    assert (texts.folder / "again.pdf").read_bytes().startswith(b"%PDF")
