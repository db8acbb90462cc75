"""Every command of the documents and every option of `--help`, typed into a shell as a user does, with the default
model: what it says is there, its numbers are those of plain transformers, and it stays within time and memory.

The inspector, a headless run that is recorded and an engine start from nothing, as they do for a user. Where another
option of theirs is tried, torch has been imported before.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import sqlite3
import stat
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf_files
import hub_server
import msgspec
import numpy as np
import promises
import pytest
import safetensors.numpy
import small
import tiny
import typer
from flat_vectors import flat
from preloaded import Preloaded
from promises import ROOT, Shell, assert_right, recorded
from terminal import Terminal
from transformers import AutoTokenizer

from tui_entropy.cli import app, groups
from tui_entropy.cli.options import SAMPLE_PROMPT
from tui_entropy.core import paths
from tui_entropy.records.knobs import KNOBS
from tui_entropy.records.knobs import shown as shown_knob
from tui_entropy.records.sampling import Knobs

pytestmark = [pytest.mark.real, pytest.mark.pty]

LINES: list[str] = []
"""Every command that a test here runs."""
MODEL = paths.models() / "smollm2"


def runs(*lines: str) -> pytest.MarkDecorator:
    """The test is run once with each of these lines, and runs it."""
    LINES.extend(lines)
    return pytest.mark.parametrize("line", lines)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Shell]:
    folder, short = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    made = promises.shell(folder, short, preloaded)
    yield made
    made.run("tui-entropy stop --all")


@pytest.fixture(scope="module")
def story(shell: Shell) -> Shell:
    """A shell in whose folder a session was recorded, under the names that the documents use."""
    done = shell.cold.run(RECORDING)
    assert done.code == 0, done.err
    kept = shell.folder / "state" / "tui-entropy" / "traces"
    for copy in (shell.folder / "run.tui", kept / "story.tui"):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shell.folder / "story.tui", copy)
    return shell


RECORDING = (
    'tui-entropy run --headless --trace story.tui -p "Tell me a long story about a lighthouse." --max-tokens 220 '
    "--banned 2"  # the end of the text
)
LINES.append(RECORDING)


# --- The inspector -------------------------------------------------------------------------------------------------


def with_two_templates(folder: Path) -> None:
    """A small model whose tokenizer has two chat templates."""
    small.saved(folder)
    tokenizer = small.tokenizer(tiny.VOCAB)
    tokenizer.chat_template = {"short": "{{ messages[-1]['content'] }}", "long": "{{ messages[-1]['content'] }}!"}
    tokenizer.save_pretrained(folder)


def written(text: str) -> int:
    found = re.search(r"context (\d+)", text)
    return int(found[1]) if found else 0


def quit_after(terminal: Terminal, n_tokens: int) -> None:
    """Let it write so many more tokens, or to the end of its text, and leave."""
    terminal.wait_for(lambda text: written(text) > 0, promises.SECONDS)
    goal = written(terminal.text) + n_tokens
    terminal.wait_for(lambda text: written(text) >= goal or "ended" in text, 120)
    terminal.press("q")
    assert terminal.wait(60) == 0
    assert terminal.left_changed() == set()


@runs("./scripts/run", 'tui-entropy --prompt "Why is the sky blue?" --temperature 1.0')
def test_the_inspector_opens_and_writes(shell, line):
    shell = shell.cold if line == "./scripts/run" else shell
    with shell.screen(line, cwd=ROOT) as terminal:
        terminal.wait_for("SmolLM2-135M-Instruct", promises.SECONDS)
        quit_after(terminal, 4)
    session = recorded(shell.newest)
    assert_right(session, MODEL)
    (started,) = [event for kind, event in session.events if kind == "started"]
    wanted = "Why is the sky blue?" if "blue" in line else SAMPLE_PROMPT
    assert started["prompt"] == wanted and started["knobs"]["temperature"] == (1.0 if "blue" in line else 0.7)


@pytest.fixture(scope="module")
def hub_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell that knows a hub on this machine, which has a small model under the name of the documents."""
    folder, short = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("s")
    upstream = small.saved(folder / "upstream")
    with hub_server.serving({"Qwen/Qwen3-0.6B": upstream}, gated=set()) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "cache")}
        with Preloaded(env) as preloaded:
            made = promises.shell(folder, short, preloaded, env)
            yield made
            made.run("tui-entropy stop --all")


@runs("tui-entropy --model Qwen/Qwen3-0.6B --device cuda --dtype bfloat16")
def test_a_model_of_the_hub(hub_shell, line):
    """On the CPU where there is no GPU."""
    import torch

    line = line if torch.cuda.is_available() else line.replace("cuda", "cpu")
    with hub_shell.screen(line) as terminal:
        terminal.wait_for("Qwen/Qwen3-0.6B", promises.SECONDS)
        quit_after(terminal, 2)
    with closing(sqlite3.connect(hub_shell.newest)) as db:
        (card,) = db.execute("select value from header where key = 'model'").fetchone()
    assert (json.loads(card)["dtype"], json.loads(card)["revision"]) == ("bfloat16", hub_server.COMMIT)


@runs(
    "tui-entropy run --headless --raw --max-tokens 2 --no-trace --model Qwen/Qwen3-0.6B --revision main -p a",
    "tui-entropy serve --no-trace --model Qwen/Qwen3-0.6B --revision main",
    "tui-entropy doctor --json --model Qwen/Qwen3-0.6B --revision main",
    "echo ab | tui-entropy read - --headless --no-trace --model Qwen/Qwen3-0.6B --revision main",
    "tui-entropy probe lens --raw --model Qwen/Qwen3-0.6B --revision main -p a",
)
def test_a_revision_of_a_model_of_the_hub(hub_shell, line):
    done = hub_shell.run(line)
    assert done.code == 0, done.err
    wrong = hub_shell.run(line.replace("main", "none"))
    assert wrong.code == 3 and "none" in wrong.err
    if " serve " in line:
        assert hub_shell.run(f"tui-entropy stop {done.out.strip()}").code == 0


@runs('tui-entropy --model ./weights.gguf --raw --prompt "Once upon a time"')
def test_a_gguf_file(shell, line):
    gguf_files.write(shell.folder / "weights.gguf", tiny.FAMILIES["llama"]())
    converted = {"XDG_CACHE_HOME": str(shell.folder / "cache")}
    with Shell(shell.folder, {**shell.env, **converted}).screen(line) as terminal:
        quit_after(terminal, 2)
    (folder,) = (shell.folder / "cache" / "tui-entropy" / "models").glob("weights-*")
    assert_right(recorded(shell.newest), folder)


@runs(
    """tui-entropy --break 'entropy > 4 bits' --break 'token == " Paris"' --watch " Yes" --watch " No\"""",
    """tui-entropy --break 'entropy > 4 bits and step > 10' --break 'token ~ "^ (Paris|Rome)"'""",
)
def test_it_stops_before_the_token_of_a_breakpoint(shell, line):
    with shell.screen(line) as terminal:
        terminal.wait_for(re.compile(r"paused.*entropy > 4 bits", re.DOTALL), promises.SECONDS)
        terminal.press("q")
        assert terminal.wait(60) == 0
    session = recorded(shell.newest)
    entropies = session.numbers[:, 0] / np.log(2)
    assert all(entropies[10 if "step > 10" in line else 0 :] <= 4)
    if len(session.tokens):
        assert_right(session, MODEL)


# --- Without a screen ----------------------------------------------------------------------------------------------


@runs('tui-entropy run --headless --jsonl --prompt "1, 2, 3," --raw --max-tokens 20 --temperature 0 > run.jsonl')
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
        shell.run(next(one for one in LINES if one.endswith("run.jsonl")))
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


TURNED = (
    "--temperature 0.9 --top-k 30 --top-p 0.9 --min-p 0.01 --typical-p 0.97 --top-n-sigma 3 --repetition-penalty 1.1 "
    "--frequency-penalty 0.1 --presence-penalty 0.2 --penalty-last-n 64 --dynatemp-range 0.2 --dynatemp-exponent 1.5 "
    "--dry-multiplier 0.5 --dry-base 1.5 --dry-allowed-length 3 --dry-breakers '\\n,:' --xtc-probability 0.3 "
    "--xtc-threshold 0.2 --mirostat-tau 4 --mirostat-eta 0.2 --adaptive own --clarifier ' Wait' --banned 7,9 "
    "--order llama.cpp --seed 11 --candidates 12 --lens 4 --lens-steps 2 --lens-file my-lens "
)
"""Every knob, from its default."""
EVERY_KNOB = (
    "tui-entropy run --headless --jsonl --no-trace --max-tokens 6 --system 'Be brief.' --chat --prompt-scores "
    f"{TURNED} -p Hello --vector happy.gguf:0.5 --break 'step > 3' --watch ' Yes' --device cpu --dtype float32 "
    "--no-trust-remote-code --no-graph --model smollm2 --products columns"
)


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


LOOKS = (
    "tui-entropy run --theme light --color 256 --ascii --no-mouse --no-diff --keep 0 --on-leave stop "
    "--kept-cache 64MiB --record-attention off",
    "tui-entropy run --no-headless --theme high-contrast --mouse --diff --trust-remote-code --graph",
)


@runs(*LOOKS)
def test_the_looks_of_the_inspector(shell, line):
    with shell.screen(line, size=(100, 30)) as terminal:
        quit_after(terminal, 2)
        if "--ascii" in line:
            assert terminal.text.isascii()
            assert b"\x1b[?1000h" not in b"".join(chunk.data for chunk in terminal.chunks)
    assert_right(recorded(shell.newest), MODEL)


# --- Questions about one token -------------------------------------------------------------------------------------

ASKED = 'tui-entropy probe lens -p "Why is the sky blue?" --position 60 --option k=8 --trace run.tui'


@runs("tui-entropy probe")
def test_probes_are_listed(shell, line):
    done = shell.run(line)
    assert done.code == 0 and [row for row in done.out.splitlines() if not row.startswith(" ")] == [
        "attention", "attention-rollout", "attention-score", "attribution", "continuations", "ensemble", "flow",
        "head-patterns", "lens", "logit-attribution", "nearest-tokens", "patching", "step", "visit",
    ]  # fmt: skip


CITY = '-p "The capital of France is the city of" --raw --option'


@runs(f"tui-entropy probe logit-attribution {CITY} sources=true")
def test_the_logit_of_a_city_comes_from_the_name_of_its_country_by_one_head(shell, line):
    found = json.loads(shell.run(f"{line} --json").out)
    sums, by_head, *_ = found["panels"]
    told = dict(sums["rows"])
    assert abs(told["remainder"]) < 1e-4 * told["logit"]
    assert by_head["rows"][0][1]["text"] == " France"


ITALY = "'into=The capital of Italy is the city of'"


@runs('tui-entropy probe patching -p "The capital of France is" --raw --option "into=The capital of Italy is"')
def test_states_put_into_another_prompt_are_drawn(shell, line):
    done = shell.run(line)
    assert done.code == 0 and "probability of ' Paris' with the state from here" in done.out


@runs(f"tui-entropy probe patching {CITY} {ITALY}")
def test_the_name_of_the_country_put_into_another_sentence_brings_its_capital(shell, line):
    found = json.loads(shell.run(f"{line} --json").out)
    table, grid, *_ = found["panels"]
    (_, here, said, *_), (_, there, *_) = table["rows"]
    assert said["text"] == " Paris" and here > 0.5 > 0.1 > there
    country = grid["columns"]["positions"].index(3)
    assert grid["rows"]["labels"][-1] == "0" and grid["values"][-1][country] == pytest.approx(here, abs=1e-3)
    assert grid["values"][0][country] == pytest.approx(there, rel=1e-3)  # a pass of another length rounds otherwise
    assert grid["values"][0][-1] == pytest.approx(here, abs=1e-3)


@runs(f"tui-entropy probe flow {CITY} by=routes --svg flow.svg")
def test_the_flow_of_a_city_comes_down_to_the_name_of_its_country_too_and_is_a_picture(shell, line):
    diagram, table, _ = json.loads(shell.run(f"{line} --json").out)["panels"]
    assert " France" in [row[0]["text"] for row in table["rows"][:3] if row[1]]
    top = [node for node in diagram["nodes"] if node["row"] == 0]
    assert [(node["token"]["text"], node["share"]) for node in top] == [(" Paris", 1.0)]
    assert (shell.folder / "flow.svg").read_text().startswith("<svg ")


@runs(f"tui-entropy probe attention-score {CITY} layer=17")
def test_why_a_head_looked_there_is_a_sum(shell, line):
    pair, total, *_ = json.loads(shell.run(f"{line} --json").out)["panels"]
    *parts, score = [row[1] for row in total["rows"]]
    assert sum(parts) == pytest.approx(score, abs=1e-4) and pair["rows"][0][0] == 17


@runs(f"tui-entropy probe attention-rollout {CITY} residual=0.9")
def test_rollout_is_told_of_each_token(shell, line):
    _, text, table = json.loads(shell.run(f"{line} --json").out)["panels"]
    assert sum(text["values"]) == pytest.approx(1) and len(table["rows"]) == len(text["values"])


@runs(f"tui-entropy probe attribution {CITY} method=attn-lrp")
def test_the_relevance_of_each_token_is_told(shell, line):
    found = json.loads(shell.run(f"{line} --json").out)
    note, text, table = found["panels"]
    assert "remainder" in note["text"] and len(text["values"]) == found["position"] == len(text["positions"])
    assert "≈" not in note["title"] and table["rows"]


@runs('tui-entropy probe lens -p "The capital of France is" --raw')
def test_the_logit_lens_of_the_first_token_says_last_what_the_model_says(shell, line):
    found = json.loads(shell.run(f"{line} --json").out)
    grid, table, *_ = found["panels"]
    assert [row[0] for row in table["rows"]] == [str(n) for n in range(30, -1, -1)] and found["position"] == 5
    assert grid["columns"]["positions"] == [1, 2, 3, 4, 5] and grid["tokens"][4] == table["rows"][0][1]
    most = table["rows"][0][1]
    ids = AutoTokenizer.from_pretrained(MODEL)("The capital of France is").input_ids
    wanted = promises.expected(MODEL, ids, most["ids"])
    entropy, _, _, rank = wanted[0]
    assert most["text"] == " Paris" and rank == 1
    assert table["rows"][0][2] == pytest.approx(entropy, abs=3e-4)
    drawn = shell.run(line)
    assert drawn.code == 0 and "lens of ·Paris at position 5" in drawn.out and "took" in drawn.err


@runs(ASKED, "tui-entropy probe lens --recording run.tui")
def test_an_answer_is_recorded_and_shown_again(shell, line):
    if line == ASKED or not (shell.folder / "asked" / "run.tui").exists():
        (shell.folder / "asked").mkdir(exist_ok=True)
        (shell.folder / "asked" / "run.tui").unlink(missing_ok=True)
        first = shell.run(ASKED, cwd=shell.folder / "asked")
        assert first.code == 0 and "recorded in" in first.err, first.err
        assert_right(recorded(shell.folder / "asked" / "run.tui"), MODEL)
        (shell.folder / "asked" / "drawn").write_text(first.out)
    again = shell.run("tui-entropy probe lens --recording run.tui", cwd=shell.folder / "asked")
    assert again.code == 0 and again.out == (shell.folder / "asked" / "drawn").read_text()


@runs('tui-entropy probe attention -p "The capital of France is" --raw --position 3 --option layer=20 --json')
def test_rows_of_attention_before_a_token_of_the_prompt(shell, line):
    done = shell.run(line)
    found = json.loads(done.out)
    assert found["options"]["layer"] == 20 and found["panels"][0]["rows"]["positions"] == [0, 1, 2]
    assert [sum(filter(None, row)) for row in found["panels"][0]["values"]] == pytest.approx([1, 1, 1], abs=1e-5)


WITH_EVERYTHING = (
    f"tui-entropy probe continuations --position 25 --option n=2 --option tokens=3 --system 'Be brief.' --chat "
    f"{TURNED} -p Hello --vector happy.gguf:0.5 --ablate 3.1=1 --device cpu --dtype float32 "
    "--no-trust-remote-code --no-graph --model smollm2 --products columns --nats --theme light --color 256 --ascii"
)


@runs(
    WITH_EVERYTHING,
    "tui-entropy probe step --raw --prompt Hello --trust-remote-code --graph --bits",
    "tui-entropy probe lens --model ./named --chat-template short -p Hello",
)
def test_a_question_with_every_option(shell, vector_files, line):
    if "./named" in line:
        with_two_templates(shell.folder / "named")
    done = shell.run(line)
    assert done.code == 0, done.err
    if "--ascii" in line:
        assert "\x1b[" in done.out and done.out.isascii() and "nats" in done.out and "bits" not in done.out


@runs("tui-entropy probe --recording story.tui --run 1")
def test_a_recording_has_answers_that_nobody_asked_for(story, line):
    head, *rows = story.run(line).out.splitlines()
    assert head.split() == ["probe", "position", "seconds", "options"]
    session = recorded(story.folder / "story.tui")
    first, *others = [int(row.split()[1]) for row in rows if row.split()[0] == "head-patterns"]
    assert len(session.prompt) <= first and len(others) == len(rows) - 1
    n = len(session.prompt) + len(session.tokens)
    assert others == list(range(128 * (first // 128 + 1), n, 128))
    none = story.run(f"{line.replace('probe', 'probe lens')}")
    assert (none.code, none.out) == (3, "") and "no answer of lens" in none.err and "head-patterns" in none.err


@runs("tui-entropy run --headless --raw --max-tokens 40 -p Hello --banned 2 --record-attention off --trace plain.tui")
def test_a_recording_without_answers_says_so(shell, line):
    assert shell.run(line).code == 0
    assert shell.run("tui-entropy probe --recording plain.tui").out == "no probe was asked in run 1\n"


# --- A text that is there ------------------------------------------------------------------------------------------


NOTES = "The capital of France is Paris. The capital of Italy is Rome.\nThe capital of Spain is Berlin.\n"


@pytest.fixture(scope="module")
def notes(shell):
    (shell.folder / "notes.txt").write_text(NOTES)
    (shell.folder / "chat.json").write_text(
        json.dumps([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Goodbye."}])
    )
    return shell


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
    with_two_templates(notes.folder / "named")
    done = notes.run(line)
    assert done.code == 0 and re.fullmatch(r"\d+ tokens after the first · perplexity [\d.]+ · .*\n", done.out), (
        done.out
    )
    wrong = notes.run(line.replace("notes.txt", "nowhere.txt"))
    assert wrong.code == 3 and "nowhere.txt cannot be read" in wrong.err


# --- Many texts ----------------------------------------------------------------------------------------------------

FRUIT = {"question": "Which of these is a fruit?", "choices": ["a chair", "an apple", "a train"], "answer": 1}
EVERY_CALIBRATION = (
    "tui-entropy calibrate words.txt --model ./named --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--products columns --chat-template short --bins 5 --limit 300 --bos with --output kept.json --plot kept.png "
    "--headless --nats --theme light --color mono --ascii"
)
TRUSTED = "--model ./named --trust-remote-code --graph"


@pytest.fixture(scope="module")
def texts(notes):
    with_two_templates(notes.folder / "named")
    (notes.folder / "words.txt").write_text(WORDS.lower() * 12)
    flat(notes.folder / "flat.safetensors")
    (notes.folder / "questions.jsonl").write_text(f"{json.dumps(FRUIT)}\nno question\n" * 3)
    for name, shift in (("original", 0.0), ("tuned", 0.05)):
        small.saved(notes.folder / name)
        weights = safetensors.numpy.load_file(notes.folder / name / "model.safetensors")
        more = {key: np.float32(shift) * (np.arange(one.size).reshape(one.shape) % 3) for key, one in weights.items()}
        safetensors.numpy.save_file(
            {key: (one + more[key]).astype(one.dtype) for key, one in weights.items()},
            notes.folder / name / "model.safetensors", {"format": "pt"},
        )  # fmt: skip
    return notes


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


@runs(EVERY_CALIBRATION, f"tui-entropy calibrate - {TRUSTED} --json --bits")
def test_calibration_with_every_option(texts, line):
    done = texts.run(line if " - " not in line else f"cat words.txt | {line}")
    assert done.code == 0, done.err
    if "--json" in line:
        told = json.loads(done.out)
        assert told["of"] == "tokens" and told["sets"][0]["n"] == sum(one["n"] for one in told["sets"][0]["bins"])
        return
    assert done.out.isascii() and "300" not in done.out.split("as it is")[0]
    again = texts.run("tui-entropy results kept.json --headless --nats --ascii --theme light --color mono")
    assert again.out == done.out
    assert (texts.folder / "kept.png").read_bytes().startswith(b"\x89PNG")


LINES.append("tui-entropy results kept.json --headless --nats --ascii --theme light --color mono")


@runs("tui-entropy results kept.json --no-headless --bits --plot again.pdf")
def test_kept_results_are_shown_again(texts, line):
    assert texts.run(EVERY_CALIBRATION).code == 0
    with texts.screen(line) as terminal:
        terminal.wait_for("calibration over tokens", promises.SECONDS)
        terminal.press("q")
        assert terminal.wait(promises.SECONDS) == 0
    assert (texts.folder / "again.pdf").read_bytes().startswith(b"%PDF")


@runs("tui-entropy calibrate words.txt --model Qwen/Qwen3-0.6B --revision main --no-headless")
def test_calibration_of_a_revision(hub_shell, line):
    (hub_shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    assert hub_shell.run(line.replace("--no-headless", "--headless")).code == 0
    without = hub_shell.run(line)
    assert without.code == 3 and "--headless" in without.err  # there is no terminal


EVERY_GRADING = (
    "tui-entropy grade graded.jsonl --model ./named --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--products columns --chat-template short --scores all --samples 3 --sample-tokens 4 --members 2 "
    "--vector flat.safetensors:1 --seed 3 --limit 300 --bos with --output grades.json --plot grades.png --headless "
    "--nats --theme light --color mono --ascii"
)


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
    again = texts.run("tui-entropy results grades.json --headless --nats --ascii --theme light --color mono")
    assert again.out == done.out and (texts.folder / "grades.png").read_bytes().startswith(b"\x89PNG")


LINES.append("tui-entropy results grades.json --headless --nats --ascii --theme light --color mono")


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


@runs("tui-entropy grade questions.jsonl --model Qwen/Qwen3-0.6B --revision main --no-headless")
def test_grading_by_a_revision(hub_shell, line):
    (hub_shell.folder / "questions.jsonl").write_text(f"{json.dumps(FRUIT)}\n")
    assert hub_shell.run(line.replace("--no-headless", "--headless")).code == 0
    without = hub_shell.run(line)
    assert without.code == 3 and "--headless" in without.err  # there is no terminal


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
    "tui-entropy compare ./tuned notes.txt --model ./original --headless",
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


@runs(
    "tui-entropy compare Qwen/Qwen3-0.6B words.txt --model Qwen/Qwen3-0.6B --revision main --revision-b main "
    "--no-headless"
)
def test_comparison_of_revisions(hub_shell, line):
    (hub_shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    assert hub_shell.run(line.replace("--no-headless", "--headless")).code == 0
    wrong = hub_shell.run(
        line.replace("--revision-b main", "--revision-b none").replace("--no-headless", "--headless")
    )
    assert wrong.code == 3 and "none" in wrong.err


def test_models_of_two_vocabularies_are_not_compared(texts):
    wrong = texts.run("tui-entropy compare ./original notes.txt --headless")
    assert wrong.code == 3 and "vocabularies that differ" in wrong.err


# --- Lenses --------------------------------------------------------------------------------------------------------

WORDS = "The lighthouse keeper found a letter in a bottle, and read it by the light of the lamp. "
FIT = "tui-entropy lens fit book.txt -o my-lens"


@runs(FIT, 'tui-entropy probe lens -p "The capital of France is" --raw --option lens=my-lens --option before=3')
def test_a_lens_is_fitted_to_a_text_and_asked_through(shell, line):
    (shell.folder / "book.txt").write_text("".join(f"{WORDS}It was letter {n} of that year. " for n in range(40)))
    if line == FIT or not (shell.folder / "my-lens").exists():
        shutil.rmtree(shell.folder / "my-lens", ignore_errors=True)
        done = shell.run(FIT)
        assert done.code == 0 and "kept in my-lens" in done.err, done.err
        rows = [row.split() for row in done.out.splitlines()[1:-1]]
        assert [row[0] for row in rows] == [str(layer) for layer in range(29, -1, -1)]
        assert all(float(fitted) < float(plain) for _, fitted, plain, _ in rows[2:])
        assert sorted(path.name for path in (shell.folder / "my-lens").iterdir()) == ["config.json", "params.pt"]
        again = shell.run(FIT)
        assert (again.code, again.out) == (3, "") and "has a lens already" in again.err
    if line != FIT:
        assert "tuned lens my-lens: probability" in shell.run(line).out


EVERY_WAY = (
    "tui-entropy lens fit words.txt --output lens-a --tokens 600 --json --model ./named --device cpu --dtype float32 "
    "--no-trust-remote-code --no-graph --products columns --chat-template short --nats"
)


@runs(EVERY_WAY, "tui-entropy lens fit - --output lens-b --model ./named --trust-remote-code --graph --bits")
def test_a_lens_fitted_with_every_option(shell, line):
    with_two_templates(shell.folder / "named")
    (shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    done = shell.run(line if " - " not in line else f"cat words.txt | {line}")
    assert done.code == 0, done.err
    if "--json" in line:
        told = json.loads(done.out)
        assert len(told["layers"]) == 4 and told["tokens"] + told["held_out"] <= 600
    else:
        assert done.out.splitlines()[0].split()[0] == "layer" and "bits" in done.out


@runs("tui-entropy lens fit words.txt --output lens-c --model Qwen/Qwen3-0.6B --revision main")
def test_a_lens_of_a_revision(hub_shell, line):
    (hub_shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    assert hub_shell.run(line).code == 0
    wrong = hub_shell.run(line.replace("main", "none").replace("lens-c", "lens-d"))
    assert wrong.code == 3 and "none" in wrong.err


# --- Ensembles, embeddings -----------------------------------------------------------------------------------------

CAPITALS = """# country capital
France Paris
Germany Berlin
Japan\tTokyo
Spain, Madrid
Russia;Moscow
Greece Athens
Peru Lima
Iran Tehran
Atlantis-by-the-Sea Poseidonopolis
"""


@runs(
    'tui-entropy probe ensemble -p "The capital of France is" --raw',
    'tui-entropy probe ensemble -p "The capital of France is" --raw --option source=weight-noise',
    'tui-entropy probe ensemble -p "The capital of France is" --raw --option source=weight-noise --option n=3 --json',
)
def test_an_ensemble_says_what_of_the_doubt_is_the_models(shell, line):
    done = shell.run(line)
    assert done.code == 0, done.err
    if "--json" not in line:
        assert ("zero by construction" in done.out) is ("weight-noise" not in line)
        assert ("noise 8" in done.out) is ("weight-noise" in line)
        return
    parts = {row[0].split(":")[0]: row[1] for row in json.loads(done.out)["panels"][1]["rows"]}
    assert parts["total"] == pytest.approx(parts["aleatoric"] + parts["epistemic"])
    assert 0 < parts["epistemic"] < parts["aleatoric"]


@runs(
    'tui-entropy probe nearest-tokens -p "128717593 + 8191493 =" --raw --position 5 --option every=10',
    'tui-entropy probe lens -p "128717593 + 8191493 =" --raw --position 5 --option secondary=iterative',
)
def test_the_stream_begins_at_the_embedding_of_its_own_token(shell, line):
    done = shell.run(line)
    if "lens" in line:
        assert done.code == 0 and "no. 2" in done.out, done.err
        return
    last = done.out.rstrip().splitlines()[-1].split()
    assert done.code == 0 and last[0] == "0" and last[2:4] == ["1.00", "1"], done.out


@runs("tui-entropy embeddings analogies capitals.txt")
def test_capitals_lie_one_step_from_their_countries(shell, line):
    (shell.folder / "capitals.txt").write_text(CAPITALS)
    done = shell.run(line)
    assert done.code == 0, done.err
    rows = [row.split() for row in done.out.splitlines() if row.startswith("top")]
    assert [row[1] for row in rows] == ["1", "5", "10"]
    assert all(float(row[2]) > float(row[4]) for row in rows), "with the step more than without"
    assert "8 pairs" in done.out and "left out" in done.out and "Atlantis" in done.out
    (shell.folder / "capitals.txt").write_text("France Paris\none two three\n")
    wrong = shell.run(line)
    assert wrong.code == 3 and "'one two three' is no pair" in wrong.err


@runs("tui-entropy embeddings markov book.txt")
def test_the_direct_path_is_held_against_the_bigrams_of_a_text(shell, line):
    (shell.folder / "book.txt").write_text("".join(f"{WORDS}It was letter {n} of that year. " for n in range(40)))
    done = shell.run(line)
    assert done.code == 0 and "it says the same again: one matrix is both" in done.out, done.err
    assert "KL of bigrams to the direct path, bits" in done.out
    (shell.folder / "book.txt").write_text("One.")
    wrong = shell.run(line)
    assert wrong.code == 3 and "give a longer text" in wrong.err


EVERY_EMBEDDING = (
    "tui-entropy embeddings markov words.txt --similarity dot --norm none --tokens 600 --least 2 --json "
    "--model ./named --device cpu --dtype float32 --no-trust-remote-code --no-graph --products columns "
    "--chat-template short --nats"
)


@runs(
    EVERY_EMBEDDING,
    "tui-entropy embeddings markov - --norm only-norm --model ./named --trust-remote-code --graph --bits",
    "tui-entropy embeddings analogies letters.txt --similarity euclidean --json --model ./named",
)
def test_embeddings_are_asked_with_every_option(shell, line):
    with_two_templates(shell.folder / "named")
    (shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    (shell.folder / "letters.txt").write_text("a b\nc d\ne f\n")
    done = shell.run(line if " - " not in line else f"cat words.txt | {line}")
    assert done.code == 0, done.err
    if "markov" in line and "--json" in line:
        told = json.loads(done.out)
        assert told["tokens"] <= 600 and told["norm"] == "none" and told["kl_nats"]["by_token"] > 0
    elif "--json" in line:
        ranks = [pair["rank"] for of in json.loads(done.out)["embeddings"].values() for pair in of["pairs"]]
        assert len(ranks) in (3, 6) and min(ranks) >= 1


@runs(
    "tui-entropy embeddings markov words.txt --model Qwen/Qwen3-0.6B --revision main",
    "tui-entropy perplexity words.txt --model Qwen/Qwen3-0.6B --revision main",
    "tui-entropy analyze words.txt --model Qwen/Qwen3-0.6B --revision main",
)
def test_numbers_of_a_revision(hub_shell, line):
    (hub_shell.folder / "words.txt").write_text(WORDS.lower()[:200])
    if "embeddings" in line:
        (hub_shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    assert hub_shell.run(line).code == 0
    wrong = hub_shell.run(line.replace("main", "none"))
    assert wrong.code == 3 and "none" in wrong.err


# --- Texts by the hundred ------------------------------------------------------------------------------------------

EVERY_TEXT_OPTION = (
    "--field said --json --model ./named --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--products columns --chat-template short"
)
DOCUMENTS = '{"said": "abc def"}\n{"said": 1}\n{"said": "ghi jkl mno"}\n'


@runs("tui-entropy perplexity book.txt")
def test_the_perplexity_of_a_text_is_that_of_plain_transformers(shell, line):
    text = WORDS * 2
    (shell.folder / "book.txt").write_text(text)
    done = shell.run(line)
    assert done.code == 0, done.err
    import torch
    from transformers import AutoModelForCausalLM

    ids = AutoTokenizer.from_pretrained(MODEL)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)(input_ids=ids, labels=ids).loss
    told = float(re.search(r"token perplexity +([\d.]+)", done.out)[1])
    assert told == pytest.approx(float(loss.double().exp()), rel=1e-4)
    assert "log-likelihood" in done.out and f"{ids.shape[1] - 1} of {ids.shape[1]} tokens scored" in done.out


@runs(
    f"tui-entropy perplexity documents.jsonl --window 8 --stride 3 --bos with {EVERY_TEXT_OPTION}",
    "tui-entropy perplexity - --bos without --model ./named --trust-remote-code --graph",
    "tui-entropy analyze documents.jsonl --config small.yaml --num-sentences 9 --temperature 2 --use-sampling "
    f"--seed 5 --control-vector push.pt --compare-control --output out --scores all --samples 3 --sample-tokens 4 "
    f"--members 2 {EVERY_TEXT_OPTION}",
    "tui-entropy analyze - --model ./named --trust-remote-code --graph --no-sampling --no-compare",
    "tui-entropy analyze sentences.txt --config comparative.yaml",
    "tui-entropy analyze sentences.txt --scores tokens,samples",
)
def test_texts_are_scored_with_every_option(shell, line):
    import torch

    with_two_templates(shell.folder / "named")
    (shell.folder / "documents.jsonl").write_text(DOCUMENTS)
    (shell.folder / "sentences.txt").write_text("abc def\nghi\n")
    (shell.folder / "small.yaml").write_text("analysis: {temperature: 1.5}\n")
    (shell.folder / "comparative.yaml").write_text(
        "analysis: {compare_control: true, control: {enabled: true, control_vectors: {positive: [1, 2]}}}\n"
        "models: {tiny: {name: ./named}}\n"
    )
    torch.save(torch.ones(32), shell.folder / "push.pt")
    done = shell.run(line if " - " not in line else f"cat sentences.txt | {line}")
    assert done.code == 0, done.err
    if "--json" in line:
        told = json.loads(done.out)
        assert "documents.jsonl line 2 is left out: its 'said' is no text" in done.err
        assert told["begins_with" if "mode" not in told else "mode"] in ("with", "comparative")
        if "mode" in told:
            (folder,) = (shell.folder / "out").glob("run_*")
            rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
            assert [row["Analysis"] for row in rows] == ["standard"] * 2 + ["control"] * 2
            assert float(rows[0]["Vectors.total"]) > 0 and float(rows[2]["SemanticEntropyEmpirical"]) >= 0
    elif "analyze" in line:
        folder = shell.folder / done.out.strip()
        assert json.loads((folder / "summary.json").read_text())["mode"] == (
            "comparative" if "--config" in line else "standard"
        )
        assert (folder / "scores.csv").exists() == ("--scores" in line)
    else:
        assert "begins with nothing" in done.out


@runs(
    "tui-entropy analyze",
    "tui-entropy analyze --compare-control --control-vector warm.pt",
    "tui-entropy analyze --resume analysis_outputs/run_20261130_120000_0123abcd",
)
def test_an_analysis_of_the_sample_is_written_and_gone_on_with(shell, line):
    import torch

    torch.save(torch.zeros(576), shell.folder / "warm.pt")
    if "--resume" in line:
        from tui_entropy.analysis.corpus import analyze
        from tui_entropy.analysis.corpus.entries import Entry
        from tui_entropy.analysis.corpus.run_folder import RunFolder

        entries = [Entry("line 1", "The capital of France is Paris.")]
        settings = analyze.settings_of(entries, 1.0, False, False, False, str(MODEL), 0)
        run = msgspec.structs.replace(settings, run_id="20261130_120000_0123abcd")
        RunFolder.create(shell.folder / "analysis_outputs", run)
    done = shell.run(line)
    assert done.code == 0, done.err
    folder = shell.folder / done.out.strip()
    (name,) = json.loads((folder / "summary.json").read_text())["models"]
    surprisal = json.loads((folder / "summary.json").read_text())["models"][name]
    means = surprisal["control" if "control" in line else "standard"]["layer_surprisals"]["mean"]
    assert len(means) == 31 and means[-1] < min(means[:20])
    if "control" in line:  # a vector of zeros changes nothing
        rows = (folder / "comparative/data" / f"{name}_layer_entropies_comparative.csv").read_text().splitlines()
        assert set(json.loads(rows[3].rpartition('","')[2][:-1])) == {0.0}
    again = shell.run(f"tui-entropy analyze --resume {done.out.strip()}")
    assert again.code == 3 and "is done already" in again.err


# --- Control vectors -----------------------------------------------------------------------------------------------


@runs("tui-entropy --vector happy.gguf:0.8 --vector terse.safetensors:-1.2:10-20")
def test_vectors_from_files_steer_as_plain_hooks_do(shell, vector_files, line):
    with shell.screen(line) as terminal:
        quit_after(terminal, 4)
    pushes = {block: np.float32(0.8) * vector for block, vector in vector_files["happy"].items()}
    for block, vector in vector_files["terse"].items():
        if 10 <= block <= 20:
            pushes[block] = pushes.get(block, 0) - np.float32(1.2) * vector
    assert_right(recorded(shell.newest), MODEL, {0: pushes})


@runs(
    "tui-entropy --vector happy.gguf:0.8@1=0,20=1,60=0.2",
    "tui-entropy --vector 'terse.safetensors:-1.2 if entropy > 3 bits'",
)
def test_vectors_that_change_along_the_text_steer_as_plain_hooks_do(shell, vector_files, line):
    with shell.screen(line) as terminal:
        terminal.wait_for(re.compile(r"terse -1\.2 if entropy > 3 bits|happy \+\d\.\d~"), promises.SECONDS)
        quit_after(terminal, 6)
    session = recorded(shell.newest)
    above = [False, *(session.numbers[:, 0] > 3 * np.log(2))]
    pushes = {}
    for step in range(len(session.tokens)):
        strength = 0.8 * np.interp(step + 1, [1, 20, 60], [0, 1, 0.2]) if "happy" in line else -1.2 * above[step]
        directions = vector_files["happy" if "happy" in line else "terse"]
        pushes[step] = {block: np.float32(strength) * vector for block, vector in directions.items()}
    assert_right(session, MODEL, pushes)


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


@pytest.fixture(scope="module")
def vector_files(shell: Shell) -> dict[str, dict[int, Any]]:
    """The vectors of the documents: block (1-based) -> direction, as they stand in files of other programs."""
    import flat_vectors

    return flat_vectors.write_all(shell.folder)


# --- Models --------------------------------------------------------------------------------------------------------


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
    with_two_templates(shell.folder / "named")
    done = shell.run(line)
    assert done.code == 0, done.err
    wrong = shell.run(line.replace("short", "none"))
    assert wrong.code == 3 and "short" in wrong.err
    if " serve " in line:
        assert shell.run(f"tui-entropy stop {done.out.strip()}").code == 0


# --- Engines that stay ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(shell: Shell) -> Iterator[str]:
    """The id of an engine that was started without a screen."""
    done = shell.cold.run(next(line for line in LINES if line.startswith('tui-entropy serve --headless -p "..."')))
    assert done.code == 0, done.err
    yield done.out.strip()
    shell.run("tui-entropy stop --all")


SERVING = 'tui-entropy serve --headless -p "..."'
LINES.append(SERVING)


@runs("tui-entropy attach --list")
def test_engines_are_listed(shell, engine, line):
    done = shell.run(line)
    assert done.code == 0 and engine in done.out and "smollm2" in done.out and ".sock" in done.err


def attached(terminal: Terminal) -> None:
    """It is there, answers a key, and is left with the engine running."""
    terminal.wait_for(lambda text: written(text) > 0, 60)
    terminal.press("u")
    terminal.wait_for("nats")
    terminal.press("ctrl+d")
    assert terminal.wait(60) == 0


@runs(
    "tui-entropy attach",
    "tui-entropy attach --ssh gpu-03",
    "tui-entropy attach --ssh gpu-03 --remote tui-entropy",
    "tui-entropy attach --theme light --color 16 --ascii --no-mouse --no-diff",
    "tui-entropy attach --mouse --diff",
)
def test_attaching(shell, engine, line):
    """ssh is a script that runs what it is given here."""
    script = shell.folder / "bin" / "ssh"
    script.parent.mkdir(exist_ok=True)
    script.write_text('#!/bin/sh\n[ "$1" = -t ] && [ "$2" = -- ] && [ "$3" = gpu-03 ] && exec sh -c "$4"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with shell.screen(line) as terminal:
        attached(terminal)


@runs("tui-entropy attach --socket /tmp/e.sock")
def test_attaching_to_a_forwarded_socket(shell, engine, line):
    """As `ssh -L` forwards it: another socket on this machine that leads to the engine's."""
    (there,) = Path(shell.env["XDG_RUNTIME_DIR"]).rglob(f"{engine}.sock")
    here = there.with_name("e")
    os.link(there, here)
    with shell.screen(line.replace("/tmp/e.sock", str(here))) as terminal:
        attached(terminal)


@runs("tui-entropy run --demo", "tui-entropy attach --demo")
def test_a_demo_tells_the_key_that_was_pressed(shell, engine, line):
    with shell.screen(line) as terminal:
        terminal.wait_for(lambda text: shown(text) > 0, promises.SECONDS)
        assert "context" not in terminal.text
        terminal.press("u")
        terminal.wait_for(" u   bits or nats")
        terminal.press("q" if " run " in line else "ctrl+d")
        assert terminal.wait(60) == 0


ELSEWHERE = {
    "ssh -L /tmp/e.sock:REMOTE_SOCKET gpu-03": "ssh's own; what it makes is attached to above",
    "./scripts/test": "it runs these tests",
}
"""Commands of the documents that no test runs, and why."""

SERVE = (
    "tui-entropy serve --model ./tiny --products rows --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--raw --prompt hello --max-tokens 5 --vector flat.safetensors:1 --break 'step > 90' --watch a "
    "--trace served.tui --record-attention all --ablate 2.1=1 "
    "--keep 30m --on-leave pause --kept-cache 64MiB "
    + " ".join(part for part in EVERY_KNOB.split("-p Hello")[0].split("--prompt-scores ")[1:])
)


@runs(SERVE, "tui-entropy serve --model ./tiny --no-trace --trust-remote-code --graph --chat --system x -p x")
def test_serving_takes_every_option(shell, line):
    if not (shell.folder / "tiny").is_dir():
        small.saved(shell.folder / "tiny")
    flat(shell.folder / "flat.safetensors")
    line = line if "--system" not in line else line.replace("--chat", "--raw")  # the small model has no template
    done = shell.run(line)
    assert done.code == 0, done.err
    assert shell.run(f"tui-entropy stop {done.out.strip()}").code == 0
    assert ("served.tui" in line) == (shell.folder / "served.tui").exists() or "--no-trace" in line


@runs(
    "tui-entropy serve --api 8000",
    "tui-entropy serve --model ./tiny --no-trace --api 127.0.0.1:0 --api-key-env XDG_RUNTIME_DIR",
    "tui-entropy serve --model ./tiny --no-trace --api 0 --no-api-key --max-tokens 2",
)
def test_an_endpoint_answers_until_it_is_ended(shell, line):
    if not (shell.folder / "tiny").is_dir():
        small.saved(shell.folder / "tiny")
    with shell.screen(line) as terminal:
        terminal.wait_for("requests are answered at http://127.0.0.1:", promises.SECONDS)
        url = re.findall(r"http://\S+", terminal.text)[-1]
        made = re.search(r"key (tui-\S+)", terminal.text)
        key = made[1] if made else shell.env["XDG_RUNTIME_DIR"]
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        asked = urllib.request.Request(f"{url}/completions", b'{"prompt": "ab", "max_tokens": 2}', headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert (
                json.load(answer)["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4} or made
            )
        terminal.press("ctrl+c")
        assert terminal.wait(60) == 0 and "the engine has ended" in terminal.text


@runs("tui-entropy stop", "tui-entropy stop --all")
def test_engines_are_stopped(shell, engine, line):
    """After every test that attaches; without an engine `stop` says so, and `--all` has nothing to do."""
    done = shell.run(line)
    assert (done.code, "has ended" in done.err) in {(0, True), (0, False)}
    assert engine not in shell.run("tui-entropy attach --list").out


# --- Recordings ----------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_right(story):
    session = recorded(story.folder / "story.tui")
    assert len(session.tokens) > 200
    assert_right(session, MODEL)


@runs("tui-entropy traces")
def test_traces(story, line):
    done = story.run(line)
    assert done.code == 0 and "story" in done.out


@runs("tui-entropy show story", "tui-entropy show run.tui --run 1")
def test_showing(story, line):
    done = story.run(line)
    assert done.code == 0 and "SmolLM2" in done.out and "lighthouse" in done.out


@runs("tui-entropy merge story", "tui-entropy merge run.tui --run 1")
def test_merging(story, line):
    done = story.run(line)
    with closing(sqlite3.connect(story.folder / "run.tui")) as db:
        (text,) = db.execute("select group_concat(text, '') from (select text from steps order by step)").fetchone()
    assert done.code == 0 and text.strip()[:200] in done.out


@runs('sqlite3 run.tui "select text, entropy_nats from tokens order by entropy_nats desc limit 10"')
def test_a_recording_is_asked_with_sqlite(story, line):
    if shutil.which("sqlite3") is None:
        pytest.skip("sqlite3 is not here")
    done = story.run(line)
    highest = np.sort(recorded(story.folder / "run.tui").numbers[:, 0])[::-1][:10]
    assert done.code == 0
    assert [float(row.rpartition("|")[2]) for row in done.out.splitlines() if "|" in row] == pytest.approx(highest)


def test_a_recording_is_asked_with_pandas_and_duckdb(story, monkeypatch):
    """The lines of Python in the README, as they stand there."""
    pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    text = (ROOT / "README.md").read_text()
    start = text.index("    import sqlite3, pandas as pd, duckdb")
    source = [line.strip() for line in text[start : text.index("\n\n", start)].splitlines()]
    monkeypatch.chdir(story.folder)
    names: dict[str, Any] = {}
    exec("\n".join(source[:-1]), names)
    rows = eval(source[-1].partition("    #")[0], names).fetchall()
    wanted = np.sort(recorded(story.folder / "run.tui").numbers[:, 2])[::-1][:10]
    found = {row[0]: row[1] for row in rows}
    assert len(rows) == 10 and found
    ranks = names["tokens"].sort_values("surprisal_nats", ascending=False)["rank"].tolist()[:10]
    assert [row[1] for row in rows] == ranks and len(wanted) == 10


@pytest.mark.parametrize("language", ["sql", "python"])
def test_the_questions_to_a_recording_have_answers(story, monkeypatch, language):
    """The fenced blocks of docs/trace.md, as they stand there."""
    monkeypatch.chdir(story.folder)
    names: dict[str, Any] = {}
    found = promises.blocks("docs/trace.md", language)
    assert found
    for block in found:
        if language == "sql":
            with closing(sqlite3.connect("run.tui")) as db:
                assert db.execute(block).fetchall(), block
        elif "duckdb" not in block:  # whose extension is downloaded
            pytest.importorskip("pandas")
            pytest.importorskip("matplotlib").use("Agg")
            exec(block, names)
    if language == "python":
        assert names["head_entropy"].shape == (30, 9)


@runs(
    "tui-entropy replay story",
    "tui-entropy replay last",
    "tui-entropy replay story.tui --all",
    "tui-entropy replay story.tui --from 200 --speed 4",
    "tui-entropy replay story.tui --run 1 --theme light --color mono --ascii --no-mouse --no-diff",
    "tui-entropy replay story.tui --mouse --diff",
)
def test_replaying(story, line):
    with story.screen(line) as terminal:
        n = 220 if "--all" in line else 200 if "--from" in line else 3
        terminal.wait_for(lambda text: len(re.findall(r"step \d+", text)) and shown(text) >= n, 60)
        terminal.press("q")
        assert terminal.wait(60) == 0
        assert terminal.left_changed() == set()


@runs(
    "tui-entropy open story.tui --headless --max-tokens 8",
    "tui-entropy open story --headless --max-tokens 8 --jsonl --run 1 --trace went-on.tui --model smollm2 "
    "--device cpu --dtype float32 --products rows --no-trust-remote-code --no-graph --record-attention off",
)
def test_a_recording_is_gone_on_with(story, line):
    before = (story.folder / "story.tui").read_bytes()
    done = story.run(line)
    assert done.code == 0, done.err
    assert "tokens read again: as recorded" in done.err
    path = story.folder / "went-on.tui" if "went-on" in line else story.newest
    was, session = recorded(story.folder / "story.tui"), recorded(path)
    assert_right(session, MODEL)
    assert session.tokens[:-8] == was.tokens and len(session.tokens) == len(was.tokens) + 8
    if "--jsonl" in line:
        lines = [json.loads(text) for text in done.out.splitlines()]
        assert [one["token_id"] for one in lines if "index" in one] == session.tokens[-8:]
        assert "header" in lines[0]
    else:
        assert AutoTokenizer.from_pretrained(MODEL).decode(session.tokens[-8:]) == done.out.removesuffix("\n")
    assert (story.folder / "story.tui").read_bytes() == before


@runs(
    "tui-entropy open last",
    "tui-entropy open story.tui --no-headless --theme light --color 256 --ascii --no-mouse --no-diff --keep 0 "
    "--on-leave stop --kept-cache 0 --trace opened.tui --demo --revision main --chat-template x --despite",
    "tui-entropy open story.tui --no-trace --mouse --diff --trust-remote-code --graph",
)
def test_a_recording_is_opened_on_the_screen_and_written_on(story, line):
    with story.screen(line) as terminal:
        if "--revision" in line:
            terminal.wait_for("leave out --revision", promises.SECONDS)
        else:
            terminal.wait_for("as recorded", promises.SECONDS)
            goal = written(terminal.text) + 3
            terminal.press("space")
            terminal.wait_for(lambda text: written(text) >= goal or "ended" in text, 120)
        terminal.press("q")
        assert terminal.wait(60) == 0


@runs("tui-entropy replay")
def test_one_is_chosen_from_a_list(story, line):
    with story.screen(line) as terminal:
        terminal.wait_for("Which one?", 60)
        terminal.press("story\r")
        terminal.wait_for(lambda text: shown(text) >= 3, 60)
        terminal.press("q")
        assert terminal.wait(60) == 0


@runs(
    "tui-entropy tour",
    "tui-entropy tour --theme light --color 256 --ascii --no-mouse --no-diff",
    "tui-entropy tour --mouse --diff --demo",
)
def test_the_tour(shell, line):
    with shell.screen(line) as terminal:
        terminal.wait_for("A model writes.", 60)
        terminal.press("q")
        assert terminal.wait(60) == 0
        assert terminal.left_changed() == set()


def shown(text: str) -> int:
    """The newest step that the titles tell."""
    return max(map(int, re.findall(r"step (\d+)", text)), default=0)


@runs("tui-entropy replay story.tui --snapshot fig1.svg@120x36:token=80 --snapshot fig2.txt:page=numbers")
def test_pictures(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    assert (story.folder / "fig1.svg").read_text().startswith("<svg")
    numbers = (story.folder / "fig2.txt").read_text()
    newest = recorded(story.folder / "story.tui").numbers[-1, 0] / np.log(2)
    row = next(row for row in numbers.splitlines() if re.search(r"\bentropy\b", row) and "bits" in row)
    assert f"{newest:.2f}" in row


@runs("tui-entropy replay story.tui --snapshot fig1.png --theme light")
def test_a_picture_in_pixels(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    assert (story.folder / "fig1.png").read_bytes().startswith(b"\x89PNG")


@runs("tui-entropy replay story.tui --cast story.cast --size 100x30")
def test_a_film(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    header = json.loads((story.folder / "story.cast").read_text().splitlines()[0])
    assert (header["version"], header["width"], header["height"]) == (2, 100, 30)


@runs("tui-entropy replay story.tui --cast waits.cast --size 80x24 --to 30 --speed 0.1 --idle 0.2")
def test_a_film_of_which_no_wait_is_longer(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    _, *events = map(json.loads, (story.folder / "waits.cast").read_text().splitlines())
    waits = np.diff([at for at, code, _ in events if code == "o"])
    assert max(waits) == pytest.approx(0.2)
    assert [label.split()[1] for _, code, label in events if code == "m"][-1] == "30"


@runs("tui-entropy replay story.tui --demo --cast story.svg --size 100x28 --to 40")
def test_a_film_in_a_picture(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    film = (story.folder / "story.svg").read_text()
    assert "@keyframes" in film and "story.tui" not in film.split("</title>")[1]


EXPORTS = (
    "tui-entropy export run.tui --to html",
    "tui-entropy export run.tui --to png --bits",
    "tui-entropy export run.tui --to csv",
    "tui-entropy export run.tui --to parquet",
    "tui-entropy export run.tui --to npz",
    "tui-entropy export run.tui --to jsonl -o -",
    "tui-entropy export run.tui --to inif -o run.inif",
    "tui-entropy export run.tui --to cast",
    "tui-entropy export run.tui --to svg --run 1 --no-bits --out figure.svg",
)


@runs(*EXPORTS)
def test_exporting(story, line):
    done = story.run(line)
    assert done.code == 0, done.err
    entropies = recorded(story.folder / "run.tui").numbers[:, 0]
    kind = line.split("--to ")[1].split()[0]
    if kind == "jsonl":
        steps = [line for row in done.out.splitlines() if "index" in (line := json.loads(row))]
        assert [one["entropy_nats"] for one in steps] == pytest.approx(list(entropies))
        return
    path = story.folder / ("figure.svg" if kind == "svg" else f"run.{kind}")
    assert path.stat().st_size > 1000
    if kind == "npz":
        arrays = np.load(path)
        assert arrays["head_entropy_nats"].shape == (len(entropies), 30, 9)
        np.testing.assert_allclose(arrays["entropy_nats"], entropies, rtol=1e-6)
    if kind == "csv":
        import csv

        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))[-len(entropies) :]  # the prompt comes first
            column = [float(row["entropy_nats"]) for row in rows]
        assert column == pytest.approx(list(entropies))
    if kind == "parquet":
        import pyarrow.parquet as parquet

        column = parquet.read_table(path)["entropy_nats"].to_pylist()[-len(entropies) :]
        assert column == pytest.approx(list(entropies))
    if kind == "html":
        assert "lighthouse" in path.read_text()


@runs("tui-entropy rm doomed.tui --yes", "tui-entropy rm doomed.tui -y")
def test_removing(story, line):
    shutil.copy(story.folder / "run.tui", story.folder / "doomed.tui")
    assert story.run(line).code == 0
    assert not (story.folder / "doomed.tui").exists() and (story.folder / "run.tui").exists()


CONFIG = " ".join([
    "tui-entropy config --model x --revision y --device cpu --dtype float32 --products rows --chat-template z",
    "--trust-remote-code --graph --color mono --ascii --mouse --diff --demo",
    *(f"{knob.option} {shlex.quote(shown_knob(Knobs(), knob.name))}" for knob in KNOBS),
])  # fmt: skip


@runs(
    "tui-entropy config",
    "tui-entropy config --theme light --top-p 0.8",
    CONFIG,
    "tui-entropy config --no-trust-remote-code --no-graph --no-mouse --no-diff",
)
def test_settings(shell, line):
    done = shell.run(line)
    assert done.code == 0 and ("option --theme" in done.out) == ("light" in line), done.err
    assert done.out.count("option --") == {CONFIG: 1 + len(KNOBS)}.get(line, 2 * ("light" in line))


@runs("tui-entropy themes", "tui-entropy --version", "tui-entropy --help", "tui-entropy -h")
def test_what_the_program_tells_of_itself(shell, line):
    done = shell.run(line)
    assert done.code == 0 and done.out.strip() and not done.err


# --- Nothing is left out -------------------------------------------------------------------------------------------


def test_every_command_of_the_documents_is_run():
    unknown = set(promises.commands()) - set(LINES) - ELSEWHERE.keys()
    assert not unknown, f"commands that no test runs: {sorted(unknown)}"
    assert ELSEWHERE.keys() <= set(promises.commands())
    assert "./scripts/test" in (ROOT / ".ci/run").read_text()


def test_every_command_and_option_is_run():
    """Each name of each option, the negative of a switch too."""
    tried: set[tuple[str, str]] = set()
    for line in LINES:
        for name, words in promises.invocations(line):
            tried |= {(name, word.partition("=")[0]) for word in words if word.startswith("-")}
            tried.add((name, ""))
    commands: Any = typer.main.get_command(app)
    wanted = {
        (name, option)
        for name, command in commands.commands.items()
        for option in ["", *(o for p in command.params if p.param_type_name == "option" for o in _names(p))]
    }
    left = {" ".join(one).strip() for one in wanted - tried}
    assert not left, f"no test runs these: {sorted(left)}"


def _names(option: Any) -> list[str]:
    """The long names of an option; a short one is the same by another name, and is tried where it stands alone."""
    return [name for name in (*option.opts, *option.secondary_opts) if name.startswith("--")]
