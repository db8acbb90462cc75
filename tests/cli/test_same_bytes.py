"""Two runs of one command write the same JSON lines, times aside; a model without numbers ends one with code 1."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small
import tiny
import torch

from tui_entropy.trace.reader import Trace

TIMES = ("forward_pass_seconds", "sampling_seconds", "at_seconds")


def run(
    folder: Path, home: Path, *options: str, program: tuple[str, ...] = (sys.executable, "-m", "tui_entropy")
) -> subprocess.CompletedProcess[bytes]:
    command = [*program, "run", "--headless", "--jsonl", "--model", str(folder), "--raw"]
    own = {name: str(home / name) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    return subprocess.run(
        [*command, *options], env=os.environ | own | {"OMP_NUM_THREADS": "1"}, capture_output=True, timeout=300
    )


def without_times(data: bytes) -> list[dict]:
    lines = [json.loads(line) for line in data.splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def test_two_runs_of_one_command_write_the_same_and_say_how_products_were_taken(tmp_path, preloaded):
    folder, fork = small.saved(tmp_path / "model"), tmp_path / "tui-entropy"
    preloaded.write_command(fork, "tui-entropy")
    options = ["--no-trace", "-p", "hello", "--max-tokens", "12", "--seed", "5", "--temperature", "1.2"]
    first, second = (run(folder, tmp_path, *options) for _ in range(2))
    other = run(folder, tmp_path, *options, "--products", "rows", program=(str(fork),))
    assert [done.returncode for done in (first, second, other)] == [0, 0, 0], first.stderr
    lines = without_times(first.stdout)
    assert len(lines) > 10 and lines == without_times(second.stdout)
    (kept,) = (tmp_path / "XDG_STATE_HOME").rglob("products/*")
    assert lines[0]["header"]["products"] == kept.read_text().strip()
    assert without_times(other.stdout)[0]["header"]["products"] == "rows"


@pytest.mark.parametrize("options", [["--temperature", "0"], ["--seed", "3"], ["--no-prompt-scores"]])
def test_a_model_without_numbers_ends_the_run_in_a_sentence_and_its_record_is_whole(tmp_path, options, preloaded):
    folder, program = tmp_path / "model", tmp_path / "tui-entropy"
    preloaded.write_command(program, "tui-entropy")
    model = tiny.FAMILIES["llama"]()
    with torch.no_grad():
        model.get_output_embeddings().weight[7] = math.nan
    model.save_pretrained(folder)
    small.tokenizer(tiny.VOCAB).save_pretrained(folder)
    done = run(
        folder,
        tmp_path,
        "-p",
        "hello",
        "--max-tokens",
        "9",
        "--trace",
        str(tmp_path / "a.tui"),
        *options,
        program=(str(program),),
    )
    said = f"NaN in 1 of {tiny.VOCAB} logits"
    assert done.returncode == 1 and said.encode() in done.stderr and b"Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["end"]["reason"].startswith(said) and lines[-1]["end"]["failed"]
    log = Trace.open(tmp_path / "a.tui").log()
    assert log.state == "ended" and log.note.startswith(said)
