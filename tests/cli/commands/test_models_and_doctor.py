"""Models: listed, fetched, checked by the doctor, with one of several chat templates."""

from __future__ import annotations

import json

import pytest
import small
from promises import Shell
from tried_commands import runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


@runs("tui-entropy models")
def test_models(shell, line):
    done = shell.run(line)
    assert done.code == 0 and "smollm2" in done.out and "gemma" in done.out


@runs("tui-entropy fetch gemma")
def test_the_terms_of_a_model_are_shown_before_it_is_fetched(shell, line):
    done = Shell(shell.folder, {**shell.env, "XDG_CACHE_HOME": str(shell.folder / "none")}).run(line, typed="n\n")
    assert done.code == 3 and "Gemma" in done.err and "not agreed" in done.err


@runs("tui-entropy fetch smollm2 --yes", "tui-entropy fetch smollm2 -y")
def test_a_model_that_is_here_is_not_fetched_again(shell, line):
    done = shell.run(line)
    assert done.code == 0 and "smollm2 is ready" in done.err


@pytest.mark.slow
@runs("tui-entropy doctor")
def test_doctor_passes_on_the_default_model(shell, line):
    done = shell.cold.run(line)
    assert done.code == 0, done.out
    assert "SmolLM2" in done.out


DOCTOR = (
    "tui-entropy doctor --json --model ./tiny --device cpu --dtype float32 --no-graph --no-trust-remote-code "
    "--products rows"
)


@runs(DOCTOR, "tui-entropy doctor --model ./tiny --json --graph --trust-remote-code")
def test_doctor_as_json(shell, line):
    if not (shell.folder / "tiny").is_dir():
        small.saved(shell.folder / "tiny")
    done = shell.run(line)
    assert done.code == 0, done.out
    assert json.loads(done.out)["checks"]


@runs(
    "tui-entropy run --headless --model ./named --chat-template short --max-tokens 2 --no-trace -p a",
    "tui-entropy serve --model ./named --chat-template short --no-trace -p a",
    "tui-entropy doctor --json --model ./named --chat-template short",
)
def test_one_of_several_chat_templates(shell, line):
    small.saved_with_two_templates(shell.folder / "named")
    done = shell.run(line)
    assert done.code == 0, done.err
    wrong = shell.run(line.replace("short", "none"))
    assert wrong.code == 3 and "short" in wrong.err
    if " serve " in line:
        assert shell.run(f"tui-entropy stop {done.out.strip()}").code == 0
