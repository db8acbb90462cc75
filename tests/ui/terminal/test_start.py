"""What a terminal can show is read off the names it goes by."""

import os

import pytest

from tui_entropy.core.errors import UserError
from tui_entropy.ui.terminal.detect import color_mode, settle_size


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "tmux-256color"}, "256"),
        ({"TERM": "xterm-kitty"}, "truecolor"),
        ({"TERM": "xterm-ghostty"}, "truecolor"),
        ({"TERM": "screen"}, "16"),
        ({"TERM": "linux"}, "16"),
        ({}, "16"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "mono"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": ""}, "truecolor"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "MOSH_SERVER_PID": "1"}, "256"),
    ],
)
def test_colours_follow_the_terminal(environment, mode):
    assert color_mode("auto", environment) == mode


def test_over_ssh_the_lighter_colours_are_taken_unless_a_person_wants_more():
    there = {"COLORTERM": "truecolor", "TERM": "xterm-256color", "SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}
    assert color_mode("auto", there) == "256"
    assert color_mode("truecolor", there) == "truecolor"
    assert color_mode("auto", {"TERM": "xterm", "SSH_TTY": "/dev/pts/1"}) == "16"


def test_a_person_may_know_better():
    assert color_mode("256", {"COLORTERM": "truecolor"}) == "256"
    with pytest.raises(UserError, match="truecolor, 256, 16, mono"):
        color_mode("sepia", {})


@pytest.mark.parametrize(
    ("said", "stays"), [("120", True), ("0", True), ("1001", False), ("9" * 20, False), ("x", False), ("", False)]
)
def test_a_size_that_no_terminal_has_is_left_to_the_terminal(monkeypatch, said, stays):
    monkeypatch.setenv("COLUMNS", said)
    monkeypatch.setenv("LINES", "36")
    settle_size()
    assert (os.environ.get("COLUMNS"), os.environ["LINES"]) == (said if stays else None, "36")
