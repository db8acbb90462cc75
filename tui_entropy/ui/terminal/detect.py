"""The abilities of the terminal: colours, glyphs, whether it is one at all."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tui_entropy.core.errors import UserError

if TYPE_CHECKING:
    from tui_entropy.ui.drawing.paint import ColorMode
MAX_SIDE_CELLS = 1000
"""Columns or rows that a terminal may have."""
COLOR_MODES = ("truecolor", "256", "16", "mono")
DIRECT = ("alacritty", "foot", "ghostty", "kitty", "wezterm", "contour", "rio", "-direct")
"""Parts of TERM that stand for 24-bit colour even where COLORTERM was lost on the way, as over SSH."""
TEXTUAL_COLORS = {"truecolor": "truecolor", "256": "256", "16": "standard", "mono": "standard"}


def drawable(color: str, instead: str) -> ColorMode:
    """The colours of this terminal, before Textual is imported. Raises UserError where nothing can be drawn."""
    if os.environ.get("TERM") == "dumb":
        raise UserError(f"this terminal cannot be drawn on (TERM=dumb): {instead}")
    for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
        if stream is None or not stream.isatty():
            raise UserError(f"the screen needs a terminal, and standard {name} is none: {instead}")
    mode = color_mode(color, os.environ)
    settle_colors(mode)
    settle_size()
    return mode


def settle_size() -> None:
    """Leave the size to the terminal where the environment has one that no terminal has."""
    for name in ("COLUMNS", "LINES"):
        cells = os.environ.get(name, "0")
        if not re.fullmatch(r"\d{1,4}", cells) or int(cells) > MAX_SIDE_CELLS:
            del os.environ[name]


def settle_colors(mode: ColorMode) -> None:
    os.environ["TEXTUAL_COLOR_SYSTEM"] = TEXTUAL_COLORS[mode]  # read once, when Textual is imported
    os.environ.pop("NO_COLOR", None)  # heard; Textual's own answer to it would be greys in 24-bit colour


def over_ssh(environment: Mapping[str, str]) -> bool:
    return "SSH_CONNECTION" in environment or "SSH_TTY" in environment


def color_mode(wanted: str, environment: Mapping[str, str]) -> ColorMode:
    """The colours that a terminal can show, by the names it goes by. Raises UserError for a mode that is none."""
    if wanted in COLOR_MODES:
        return wanted  # type: ignore[return-value]
    if wanted != "auto":
        raise UserError(f"--color {wanted} is not known: take auto or one of {', '.join(COLOR_MODES)}")
    term = environment.get("TERM", "")
    if environment.get("NO_COLOR"):
        return "mono"
    if "MOSH_SERVER_PID" in environment or "MOSH_IP" in environment:
        return "256"  # mosh takes 24-bit colour for something else
    if environment.get("COLORTERM") in ("truecolor", "24bit") or any(name in term for name in DIRECT):
        # On its way 24-bit colour is a third more to send, and the ramps are made of the 256.
        return "256" if over_ssh(environment) else "truecolor"
    return "256" if "256" in term else "16"
