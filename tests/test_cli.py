"""The command line: what is meant by what is typed, and mistakes that are answered before anything slow."""

import subprocess
import sys

import pytest

from tui_entropy.cli import order_option, vector_option
from tui_entropy.errors import UserError
from tui_entropy.records import ORDERS, Vector


@pytest.mark.parametrize(
    ("typed", "vector"),
    [
        ("warm:1", Vector("warm", "warm", strength=1.0, on=True)),
        ("a/b.gguf:-0.5", Vector("b", "a/b.gguf", strength=-0.5, on=True)),
        ("a/b.gguf:.8:10-20", Vector("b", "a/b.gguf", strength=0.8, on=True, first=10, last=20)),
        ("c:/odd:name.gguf:2:3-3", Vector("odd:name", "c:/odd:name.gguf", strength=2.0, on=True, first=3, last=3)),
    ],
)
def test_a_vector_is_a_file_a_strength_and_maybe_blocks(typed, vector):
    assert vector_option(typed) == vector


@pytest.mark.parametrize("typed", ["warm", "warm:", "warm:much", ":1", "warm:1:", "warm:nan"])
def test_a_vector_that_cannot_be_read_shows_the_form(typed):
    with pytest.raises(UserError, match="FILE:STRENGTH"):
        vector_option(typed)


def test_an_order_is_a_preset_or_begins_with_what_is_named():
    assert order_option("llama.cpp") == ORDERS["llama.cpp"]
    named = order_option("min-p, temperature")
    assert named[:2] == ("min_p", "temperature") and sorted(named) == sorted(ORDERS["hf"])


@pytest.mark.parametrize(("options", "said"), [(["--top-p", "3"], "top_p is 3.0"), (["--order", "sour"], "'sour'")])
def test_a_wrong_knob_is_refused_before_any_model_is_looked_for(options, said):
    command = [sys.executable, "-m", "tui_entropy", "run", "--headless", "--model", "/nowhere", *options]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 3 and done.stdout == ""
    assert said in done.stderr and "nowhere" not in done.stderr and done.stderr.count("\n") == 1
