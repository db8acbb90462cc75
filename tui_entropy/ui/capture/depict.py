"""Pictures of a recording, written by one command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tui_entropy.ui.terminal.detect import color_mode, settle_colors

if TYPE_CHECKING:
    pass


def depict(
    file: Path,
    run: int | None,
    appearance: tuple[str, str, bool],
    *,
    snapshots: Sequence[str],
    cast: Path | None,
    size: str,
    speed: float,
    first: int | None,
) -> None:
    """Pictures and a film of a recording, in files; the rest as in `replay`. Raises UserError."""
    from tui_entropy.trace.reader import Trace

    trace = Trace.open(file)
    theme, color, ascii_only = appearance
    settle_colors(mode := color_mode("truecolor" if color == "auto" else color, {}))
    from tui_entropy.trace.playback import Playback
    from tui_entropy.ui.capture import film, snapshot
    from tui_entropy.ui.drawing.paint import Paint
    from tui_entropy.ui.drawing.theme import load

    paint = Paint(load(theme), mode, ascii_only)
    usual = snapshot.parse_size(size)
    snapshot.draw(trace, run, [snapshot.parse_snapshot(text, usual) for text in snapshots], paint)
    if cast:
        clock = film.Clock()
        playback = Playback(trace, run, speed=speed, first=first, clock=clock)
        film.record(cast, playback, clock, usual, paint)
