"""`lens fit`: a lens of a text, and asking through it."""

from __future__ import annotations

import json
import shutil

import pytest
import small
from tried_commands import WORDS, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


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
    small.saved_with_two_templates(shell.folder / "named")
    (shell.folder / "words.txt").write_text(WORDS.lower() * 12)
    done = shell.run(line if " - " not in line else f"cat words.txt | {line}")
    assert done.code == 0, done.err
    if "--json" in line:
        told = json.loads(done.out)
        assert len(told["layers"]) == 4 and told["tokens"] + told["held_out"] <= 600
    else:
        assert done.out.splitlines()[0].split()[0] == "layer" and "bits" in done.out
