"""Pictures of a recording, written by one command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tui_entropy.core.look import Look
from tui_entropy.ui.terminal.detect import color_mode, settle_colors


def depict(
    file: Path,
    run: int | None,
    look: Look,
    *,
    snapshots: Sequence[str],
    cast: Path | None,
    size: str,
    speed: float,
    first: int | None,
    last: int | None,
    idle: float,
) -> None:
    """Pictures and a film of a recording, in files; the rest as in `replay`. Raises UserError."""
    from tui_entropy.trace.reader import Trace

    trace = Trace.open(file)
    settle_colors(mode := color_mode("truecolor" if look.color == "auto" else look.color, {}))
    from tui_entropy.trace.playback import Playback
    from tui_entropy.ui.capture import film, moment, snapshot, wishes
    from tui_entropy.ui.drawing.paint import Paint
    from tui_entropy.ui.drawing.theme import load

    paint = Paint(load(look.theme), mode, look.ascii_only)
    usual = wishes.parse_size(size)
    snapshot.draw(trace, run, [wishes.parse_snapshot(text, usual) for text in snapshots], paint, look.demo)
    if cast:
        clock = moment.Clock()
        playback = Playback(trace, run, speed=speed, first=first, clock=clock)
        cut = moment.Cut(last, idle)
        snapshot.write_files({cast: film.encode(cast, playback, clock, usual, paint, cut, look.demo)})
