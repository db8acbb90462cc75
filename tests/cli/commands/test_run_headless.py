"""`run` without a screen: its text, its JSON lines, its exit codes, every knob."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import promises
import pytest
import typer
from promises import ROOT, assert_right, recorded
from tried_commands import EVERY_KNOB, MODEL, runs

from tui_entropy.cli import app, groups
from tui_entropy.records.knobs import KNOBS
from tui_entropy.records.sampling import Knobs

pytestmark = [pytest.mark.real, pytest.mark.pty]


JSON_LINES = (
    'tui-entropy run --headless --jsonl --prompt "1, 2, 3," --raw --max-tokens 20 --temperature 0 > run.jsonl'
)


@runs(JSON_LINES)
def test_json_lines(shell, line):
    done = shell.run(line)
    assert done.code == 0 and "recorded in" in done.err
    lines = [json.loads(text) for text in (shell.folder / "run.jsonl").read_text().splitlines()]
    (header,) = (one["header"] for one in lines if "header" in one)
    steps = [one for one in lines if "index" in one]
    assert [one["index"] for one in steps] == list(range(20)) and all(one["rank"] == 1 for one in steps)
    names = ("entropy_nats", "varentropy_nats2", "surprisal_nats", "rank")
    found = np.array([[one[name] for name in names] for one in steps])
    wanted = promises.expected(MODEL, header["prompt_ids"], [one["token_id"] for one in steps])
    np.testing.assert_allclose(found, wanted, atol=3e-4, rtol=1e-4)
    (end,) = (one["end"] for one in lines if "end" in one)
    assert end["perplexity"] == pytest.approx(np.exp(wanted[:, 2].mean()), rel=1e-4)
    session = recorded(shell.newest)
    assert session.tokens == [one["token_id"] for one in steps]


@pytest.mark.parametrize("program", ["jq"])
@runs(
    "jq -r 'select(.index != null) | [.text, .entropy_nats, .rank] | @tsv' run.jsonl",
    "jq '.prompt.surprisal_nats // empty' run.jsonl",
    "jq '.end // empty' run.jsonl",
)
def test_json_lines_can_be_asked(shell, program, line):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    if not (shell.folder / "run.jsonl").exists():
        shell.run(JSON_LINES)
    done = shell.run(line)
    assert done.code == 0 and done.out.strip()
    if "@tsv" in line:
        assert len(done.out.splitlines()) == 20 and all(len(row.split("\t")) == 3 for row in done.out.splitlines())


@runs('echo "Why?" | tui-entropy run --headless --prompt -')
def test_a_prompt_on_stdin(shell, line):
    done = shell.run(line)
    assert done.code == 0 and "recorded in" in done.err
    session = recorded(shell.newest)
    assert_right(session, MODEL)
    (started,) = [event for kind, event in session.events if kind == "started"]
    assert started["prompt"] == "Why?\n"


@runs(
    """tui-entropy run --headless -p "Say that you are sorry." --break 'text ~ "(?i)sorry" or p[" No"] > 0.5'""",
    """tui-entropy run --headless -p "Say that you are sorry." --break 'text ~ "(?i)sorry"'""",
)
def test_a_breakpoint_without_a_screen_is_an_exit_code(shell, line):
    done = shell.run(line)
    assert done.code == 4, done.err
    assert "sorry" not in done.out.lower()  # it stops before the token that makes it true
    session = recorded(shell.newest)
    if session.tokens:
        assert_right(session, MODEL)


@runs("""tui-entropy run --headless -p "Why is the sky blue?" --lens 1 --break 'commitment_layer < 30'""")
def test_a_breakpoint_on_what_layers_would_have_said_stops_too(shell, line):
    done = shell.run(line)
    assert done.code == 4 and "commitment_layer < 30" in done.err


def test_a_breakpoint_that_is_wrong_is_shown_as_the_document_says(shell):
    (shown,) = [
        block
        for block in (ROOT / "docs/breakpoints.md").read_text().split("\n\n")
        if block.startswith("    --break: ")
    ]
    done = shell.run("tui-entropy run --headless --break 'entrpy > 3'")
    assert (done.code, done.out) == (2, "")
    assert [row.strip() for row in done.err.splitlines()] == [row.strip() for row in shown.splitlines()]


@runs(EVERY_KNOB)
def test_every_knob_arrives_where_it_is_used(shell, vector_files, line):
    done = shell.run(line)
    assert done.code == 4, done.err
    (header,) = (json.loads(row)["header"] for row in done.out.splitlines() if row.startswith('{"header"'))
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    given = command.make_context("run", promises.words(line)[2:]).params
    for knob in KNOBS:
        wanted = groups._knobs({knob.name: given[knob.name]})
        assert getattr(wanted, knob.name) != getattr(Knobs(), knob.name), f"{knob.name} is not turned"
        assert header["knobs"][knob.name] == json.loads(json.dumps(_plain(getattr(wanted, knob.name))))
    assert [(one["name"], one["strength"], one["on"]) for one in header["vectors"]] == [("happy", 0.5, True)]
    assert header["system"] == "Be brief." and header["chat"] is True


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | frozenset) else value


@runs("tui-entropy run --headless --raw --no-prompt-scores --trace small.tui -p Hello --max-tokens 3 --temperature 0")
def test_plain_text_and_a_recording_of_a_name(shell, line):
    done = shell.run(line)
    assert done.code == 0 and "small.tui" in done.err
    assert_right(recorded(shell.folder / "small.tui"), MODEL)
    assert shell.run(line).code == 3  # it is there already


@runs('tui-entropy run --ablate 12.3 --ablate 20.attention=0.5 -p "The capital of France is" --raw')
def test_parts_that_are_scaled_are_told_and_change_what_the_model_believes(shell, line):
    def told(words):
        done = shell.run(f"{words} --headless --jsonl --no-trace --max-tokens 2 --temperature 0")
        header, *rows = map(json.loads, done.out.splitlines())
        return header["header"]["vectors"], next(row["surprisal_nats"] for row in rows if "index" in row)

    vectors, surprisal = told(line)
    assert [(one["name"], one["strength"]) for one in vectors] == [("12.3", 0.0), ("20.attention", 0.5)]
    neutral, plain = told('tui-entropy run --ablate 12.3=1 -p "The capital of France is" --raw')
    assert [one["part"] for one in neutral] == ["3"]
    assert told('tui-entropy run -p "The capital of France is" --raw') == ([], plain) and surprisal != plain
