"""The program in a terminal: the same screen with less sent, and keys that are answered on a slow link."""

from __future__ import annotations

import re
import sys
import time

import pytest
from places import FAKE_ENGINE
from slow_link import Link
from terminal import PANES_IN_TURN, Terminal

pytestmark = pytest.mark.pty

FAKE = f"{sys.executable} {FAKE_ENGINE}"
CONTEXT = re.compile(r"context (\d+)")


REPAINTING = """
from tui_entropy.__main__ import main
from tui_entropy.ui.actions.panes import PaneActions
PaneActions.action_redraw = lambda self: self.app.screen.refresh(layout=True)
main()
"""
"""The program, where ctrl+l has everything painted and nothing forgotten."""


def inspector(tmp_path, rate, *flags, size=(120, 36), link=None, program=("-m", "tui_entropy")):
    command = [sys.executable, *program, "run", "--max-tokens", "8000", *flags]
    env = {"TUI_ENTROPY_ENGINE": f"{FAKE} --rate {rate}", "XDG_STATE_HOME": str(tmp_path), "TUI_ENTROPY_KEEP": "0"}
    return Terminal(command, *size, env=env, link=link)


def test_themes_pages_help_and_sizes_lead_to_the_screen_that_a_full_redraw_gives(tmp_path):
    size = (100, 30)
    with inspector(tmp_path, 60) as terminal:
        terminal.wait_for(CONTEXT)
        terminal.resize(*size)
        for keys in (["N"], ["escape"], ["?"], ["escape"], ["L"], ["escape"], ["h"], ["h"], ["u"], ["left", "end"]):
            terminal.press(*keys)
            time.sleep(0.15)
        terminal.press("ctrl+p")
        terminal.wait_for("Search for commands")
        terminal.press(*"theme light")
        terminal.wait_for(lambda text: "Theme light" in text and "Theme dark" not in text)
        terminal.press("enter")
        terminal.wait_for(lambda text: "Theme light" not in text)
        terminal.press("space")
        terminal.wait_for("paused")
        terminal.settle(0.8)
        by_changes = terminal.looks
        terminal.press("ctrl+l")
        terminal.settle(0.8)
        assert terminal.looks == by_changes


@pytest.mark.parametrize(
    ("opened", "apart"), [([], 0), ([], 0.003), (["ctrl+p"], 0), (["N"], 0), (["?"], 0.003)], ids=str
)
def test_a_terminal_that_is_smaller_for_a_moment_gets_back_all_that_it_lost(tmp_path, opened, apart):
    """Both changes of size may be seen at once, when nothing is of another size any more, or the second before
    anything is painted for the first."""
    with inspector(tmp_path, 60, size=(100, 30)) as terminal:
        terminal.wait_for(re.compile(r"step \d"))
        terminal.press("space")
        terminal.wait_for("paused")
        terminal.press(*opened)
        terminal.settle(PANES_IN_TURN)
        shown = terminal.looks
        terminal.resize(100, 22)
        time.sleep(apart)
        terminal.resize(100, 30)
        time.sleep(0.5)
        terminal.settle(PANES_IN_TURN)
        assert terminal.looks == shown


def test_a_repaint_of_what_is_there_sends_next_to_nothing(tmp_path):
    with inspector(tmp_path, 100, size=(200, 60), program=("-c", REPAINTING)) as terminal:
        terminal.wait_for(re.compile(r"step [3-9]\d"))
        terminal.press("space")
        terminal.wait_for("paused")
        terminal.settle(0.8)
        before, shown = terminal.received, terminal.looks
        terminal.press("ctrl+l")
        time.sleep(0.5)
        terminal.settle(0.5)
        assert terminal.received - before <= 100
        assert terminal.looks == shown


def test_less_is_sent_than_is_painted(tmp_path):
    sent = {}
    for flags in ([], ["--no-diff"]):
        with inspector(tmp_path, 40, *flags) as terminal:
            terminal.wait_for(CONTEXT)
            time.sleep(1)
            before, first = terminal.received, int(CONTEXT.search(terminal.text)[1])
            time.sleep(3)
            terminal.press("space")
            terminal.wait_for("paused")
            sent[bool(flags)] = (terminal.received - before) / (int(CONTEXT.search(terminal.text)[1]) - first)
    assert sent[False] < 0.75 * sent[True]


def test_a_key_is_answered_soon_though_the_link_is_much_too_slow_for_all_frames(tmp_path):
    slow = Link(rate=12e3, round_trip=0.05)
    with inspector(tmp_path, 100, link=slow) as terminal:
        terminal.wait_for(CONTEXT, 60)
        time.sleep(4)
        pressed = terminal.press("?")
        assert terminal.wait_for("every key", 30) - pressed < 3.0
