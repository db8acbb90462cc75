"""What a run is written from, as a person gives it to the command."""

from __future__ import annotations

import io
import json
import sys

import pytest
import small

from tui_entropy import cli
from tui_entropy.cli.options import SAMPLE_PROMPT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small.saved(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def command(folder, own_folders, monkeypatch, capfdbinary):
    """Runs the program without a screen, and gives its exit code, its JSON lines and what it said."""

    def run(*options: str, stdin: str = "") -> tuple[int, list[dict], str]:
        arguments = ["run", "--headless", "--jsonl", "--no-trace", "--model", str(folder), "--max-tokens", "3"]
        monkeypatch.setattr(sys, "argv", ["tui-entropy", *arguments, *options])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, said = capfdbinary.readouterr()
        return left.value.code, [json.loads(line) for line in out.splitlines()], said.decode()

    return run


@pytest.mark.parametrize("options", [["-p", ""], ["-p", "-"], ["-p", "", "--raw"]])
def test_an_empty_prompt_is_the_token_that_texts_begin_with(command, options):
    code, lines, _ = command(*options)
    assert code == 0 and lines[0]["header"]["prompt_ids"] == [1] and lines[0]["header"]["prompt"] == ""
    assert sum("token_id" in line for line in lines) == 3


def test_without_a_prompt_there_is_a_sample(command):
    assert command()[1][0]["header"]["prompt"] == SAMPLE_PROMPT
    assert command("-p", "-", stdin="from a file")[1][0]["header"]["prompt"] == "from a file"


@pytest.mark.parametrize("token_id", ["96", "2147483648", "9999999999", str(2**62)])
def test_a_banned_token_that_is_none_is_refused_in_one_sentence(command, token_id):
    code, lines, said = command("-p", "a", "--banned", token_id)
    assert code == 3 and not lines
    assert f"there is no token {token_id} that could be banned: ids go from 0 to 95, leave it out" in said
