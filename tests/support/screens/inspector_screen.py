"""The inspector in a terminal, read off its screen: how far it is, and leaving it."""

from __future__ import annotations

import re

import promises
from terminal import Terminal


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


def shown(text: str) -> int:
    """The newest step that the titles tell."""
    return max(map(int, re.findall(r"step (\d+)", text)), default=0)
