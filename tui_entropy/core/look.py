"""Look: the look of a screen."""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """The look of a screen, as it was asked for."""

    theme: str
    color: str
    """One of COLOR_MODES, or 'auto'."""
    ascii_only: bool
    mouse: bool
    """It listens to the mouse."""
    diff: bool
    """Only cells that changed are sent."""
    demo: bool = False
    """Fewer and larger panes, and a caption in place of the key hints: for those who look on."""
