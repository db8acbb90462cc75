"""The command line: what is meant by what is typed, and mistakes that are answered before anything slow."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tui_entropy.cli import break_options, vector_option, with_shared_options
from tui_entropy.core.errors import UserError
from tui_entropy.records.knobs import KNOBS
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Vector
from tui_entropy.stages.registry import ORDERS


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


def knobs_of(*options: str) -> Knobs:
    got: list[Knobs] = []
    app = typer.Typer()

    @app.command()
    @with_shared_options
    def take(*, knobs: Knobs) -> None:
        got.append(knobs)

    CliRunner().invoke(app, options, standalone_mode=False, catch_exceptions=False)
    return got[0]


def test_without_options_the_knobs_are_as_they_come():
    assert knobs_of() == Knobs()


@pytest.mark.parametrize("knob", [knob for knob in KNOBS if knob.rungs], ids=lambda knob: knob.name)
def test_every_number_has_an_option_of_its_kind(knob):
    rung = knob.rungs[3]
    value = getattr(knobs_of(knob.option, str(rung)), knob.name)
    assert value == rung and type(value) is type(knob.default)


def test_texts_and_choices_are_read():
    assert knobs_of("--dry-breakers", "\\n,.").dry_breakers == ("\n", ".")
    assert knobs_of("--dry-breakers", "").dry_breakers == ()
    assert knobs_of("--adaptive", "S3", "--clarifier", " Hm\\n").clarifier == " Hm\n"
    assert knobs_of("--order", "llama.cpp").order == ORDERS["llama.cpp"]
    named = knobs_of("--order", "min-p, temperature").order
    assert named[:2] == ("min_p", "temperature") and sorted(named) == sorted(ORDERS["hf"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--top-p", "3"], "top_p is 3.0"),
        (["--order", "sour"], "'sour'"),
        (["--adaptive", "S9"], "adaptive is 'S9' but must be one of off, S1, S3, own"),
        (["--dry-base", "0.5"], "dry_base is 0.5 but must be between 1 and 100"),
    ],
)
def test_a_knob_that_can_not_be_is_refused_in_a_sentence(options, said):
    with pytest.raises(UserError, match=said):
        knobs_of(*options)


def test_breakpoints_are_numbered_and_a_wrong_one_is_explained_before_any_model_is_looked_for():
    assert break_options(["entropy > 3", "rank > 5"]) == (Breakpoint(1, "entropy > 3"), Breakpoint(2, "rank > 5"))
    assert break_options(None) == ()
    for command in ("run", "serve"):
        options = ["--headless", "--model", "/nowhere", "--break", "rank > 1", "--break", "entropy > 3 bots"]
        done = subprocess.run(
            [sys.executable, "-m", "tui_entropy", command, *options],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("--break: bots is no unit") and "nowhere" not in done.stderr
        assert done.stderr.splitlines()[1:] == ["  entropy > 3 bots", "              ^"]


def test_a_wrong_knob_is_refused_before_any_model_is_looked_for():
    command = [sys.executable, "-m", "tui_entropy", "run", "--headless", "--model", "/nowhere", "--top-p", "3"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and done.stdout == ""
    assert "top_p is 3.0" in done.stderr and "nowhere" not in done.stderr and done.stderr.count("\n") == 1
