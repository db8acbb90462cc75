"""From the command line to a running screen: look at the terminal, choose colours, open the inspector."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_entropy.errors import UserError
from tui_entropy.streams import say

if TYPE_CHECKING:
    from textual.driver import Driver

    from tui_entropy.records import ModelSpec, Write
    from tui_entropy.ui.app import InspectorApp
    from tui_entropy.ui.paint import ColorMode

GIL_SECONDS = 0.0005
"""After which the thread that draws makes way for those that read keys and write frames."""
LONGEST_SIDE = 1000
"""Columns or rows that a terminal may have."""
COLOR_MODES = ("truecolor", "256", "16", "mono")
DIRECT = ("alacritty", "foot", "ghostty", "kitty", "wezterm", "contour", "rio", "-direct")
"""Parts of TERM that stand for 24-bit colour even where COLORTERM was lost on the way, as over SSH."""
TEXTUAL_COLORS = {"truecolor": "truecolor", "256": "256", "16": "standard", "mono": "standard"}


def start(
    spec: ModelSpec,
    write: Write | None,
    *,
    theme: str,
    color: str,
    ascii_only: bool,
    mouse: bool,
    diff: bool = True,
    **engine: Any,
) -> None:
    """Open the inspector and stay until it is left, then tell how to come back. engine: as InspectorApp takes it.

    Raises UserError where there is no terminal to draw on.
    """
    mode = drawable(color, "`run --headless` (and --jsonl) gives plain output")
    from tui_entropy import engines, paths
    from tui_entropy.ui.app import InspectorApp
    from tui_entropy.ui.keys import keymap
    from tui_entropy.ui.paint import Paint
    from tui_entropy.ui.theme import load

    app = InspectorApp(
        spec,
        write,
        paint=Paint(load(theme), mode, ascii_only),
        engine_command=engines.command(),
        keymap=keymap(paths.keymap()),
        driver_class=driver(diff),
        **engine,
    )
    stay(app, mouse)


def replay(
    file: Path,
    run: int | None,
    looks: tuple[str, str, bool],
    *,
    speed: float,
    first: int | None,
    mouse: bool,
    diff: bool = True,
) -> None:
    """Show a recording and stay until it is left. looks: theme, colours, whether in ASCII. first: tokens there at the
    beginning, None for all. Raises UserError for a file that is no recording and where nothing can be drawn."""
    from tui_entropy.trace import Trace

    trace = Trace.open(file)
    theme, color, ascii_only = looks
    mode = drawable(color, "--snapshot FILE.svg and --cast FILE.cast need no terminal")
    from tui_entropy import paths
    from tui_entropy.ui.keys import keymap
    from tui_entropy.ui.paint import Paint
    from tui_entropy.ui.playback import Playback
    from tui_entropy.ui.replay import ReplayApp
    from tui_entropy.ui.theme import load

    playback = Playback(trace, run, speed=speed, first=first)
    paint = Paint(load(theme), mode, ascii_only)
    stay(ReplayApp(playback, paint=paint, keymap=keymap(paths.keymap()), driver_class=driver(diff)), mouse)


def depict(
    file: Path,
    run: int | None,
    looks: tuple[str, str, bool],
    *,
    snapshots: Sequence[str],
    cast: Path | None,
    size: str,
    speed: float,
    first: int | None,
) -> None:
    """Pictures and a film of a recording, in files; the rest as in `replay`. Raises UserError."""
    from tui_entropy.trace import Trace

    trace = Trace.open(file)
    theme, color, ascii_only = looks
    settle_colors(mode := color_mode("truecolor" if color == "auto" else color, {}))
    from tui_entropy.ui import pictures
    from tui_entropy.ui.paint import Paint
    from tui_entropy.ui.playback import Playback
    from tui_entropy.ui.theme import load

    paint = Paint(load(theme), mode, ascii_only)
    pictures.draw(trace, run, [pictures.wanted(text) for text in snapshots], paint)
    if cast:
        clock = pictures.Clock()
        playback = Playback(trace, run, speed=speed, first=first, clock=clock)
        pictures.record(cast, playback, clock, pictures.sized(size), paint)


def driver(diff: bool) -> type[Driver] | None:
    """What sends to the terminal; None, for Textual's choice, where ours cannot run."""
    if sys.platform == "win32":
        return None
    from tui_entropy.ui.driver import DiffingDriver, PlainDriver

    return DiffingDriver if diff else PlainDriver


def stay(app: InspectorApp, mouse: bool) -> None:
    sys.setswitchinterval(GIL_SECONDS)
    app.run(mouse=mouse)
    if app.failure is not None:
        raise app.failure
    if app.parting:
        say(app.parting)
    if app.return_code:
        sys.exit(app.return_code)


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
        told = os.environ.get(name, "0")
        if not re.fullmatch(r"\d{1,4}", told) or int(told) > LONGEST_SIDE:
            del os.environ[name]


def settle_colors(mode: ColorMode) -> None:
    os.environ["TEXTUAL_COLOR_SYSTEM"] = TEXTUAL_COLORS[mode]  # read once, when Textual is imported
    os.environ.pop("NO_COLOR", None)  # heard; Textual's own answer to it would be greys in 24-bit colour


def over_ssh(environment: Mapping[str, str]) -> bool:
    return "SSH_CONNECTION" in environment or "SSH_TTY" in environment


def color_mode(wanted: str, environment: Mapping[str, str]) -> ColorMode:
    """What a terminal can show, by the names it goes by. Raises UserError for a mode that is none."""
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
