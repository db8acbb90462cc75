"""From the command line to a running screen: look at the terminal, choose colours, open the inspector."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_entropy.core.look import Look
from tui_entropy.core.streams import say
from tui_entropy.ui.terminal.detect import drawable

if TYPE_CHECKING:
    from textual.driver import Driver

    from tui_entropy.records.commands import Write
    from tui_entropy.records.model import ModelSpec
    from tui_entropy.ui.app.viewer import Viewer

GIL_SWITCH_S = 0.0005
"""After which the thread that draws makes way for those that read keys and write frames."""


def start(spec: ModelSpec, write: Write | None, look: Look, **engine: Any) -> None:
    """Open the inspector and stay until it is left, then tell how to come back. engine: as InspectorApp takes it.

    Raises UserError where there is no terminal to draw on.
    """
    mode = drawable(look.color, "`run --headless` (and --jsonl) gives plain output")
    from tui_entropy.core import paths
    from tui_entropy.transport import discovery
    from tui_entropy.ui.app.app import InspectorApp
    from tui_entropy.ui.drawing.paint import Paint
    from tui_entropy.ui.drawing.theme import load
    from tui_entropy.ui.keys.keymap import keymap

    app = InspectorApp(
        spec,
        write,
        paint=Paint(load(look.theme), mode, look.ascii_only),
        engine_command=discovery.command(),
        keymap=keymap(paths.keymap()),
        driver_class=driver(look.diff),
        **engine,
    )
    stay(app, look.mouse)


def replay(file: Path, run: int | None, look: Look, *, speed: float, first: int | None) -> None:
    """Show a recording and stay until it is left. first: tokens there at the beginning, None for all.

    Raises UserError for a file that is no recording and where nothing can be drawn.
    """
    from tui_entropy.trace.reader import Trace

    trace = Trace.open(file)
    mode = drawable(look.color, "--snapshot FILE.svg and --cast FILE.cast need no terminal")
    from tui_entropy.core import paths
    from tui_entropy.trace.playback import Playback
    from tui_entropy.ui.app.replay_app import ReplayApp
    from tui_entropy.ui.drawing.paint import Paint
    from tui_entropy.ui.drawing.theme import load
    from tui_entropy.ui.keys.keymap import keymap

    playback = Playback(trace, run, speed=speed, first=first)
    paint = Paint(load(look.theme), mode, look.ascii_only)
    stay(ReplayApp(playback, paint=paint, keymap=keymap(paths.keymap()), driver_class=driver(look.diff)), look.mouse)


def driver(diff: bool) -> type[Driver] | None:
    """The driver of the terminal; None, for Textual's choice, where ours cannot run."""
    if sys.platform == "win32":
        return None
    from tui_entropy.ui.terminal.driver import DiffingDriver, PlainDriver

    return DiffingDriver if diff else PlainDriver


def stay(app: Viewer, mouse: bool) -> None:
    sys.setswitchinterval(GIL_SWITCH_S)
    app.run(mouse=mouse)
    if app.failure is not None:
        raise app.failure
    if app.parting:
        say(app.parting)
    if app.return_code:
        sys.exit(app.return_code)
