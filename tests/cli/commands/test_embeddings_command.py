"""`embeddings`: analogies, and the bigrams that both embeddings hold."""

from __future__ import annotations

import json

import pytest
import small
from tried_commands import WORDS, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


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
    small.saved_with_two_templates(shell.folder / "named")
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
