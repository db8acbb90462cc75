"""The run as its replay draws it: a film for asciinema, at the pace it was written."""

from __future__ import annotations

import asyncio
from typing import BinaryIO

from tui_entropy.export.recorded_run import Recording

SIZE = (120, 36)


def write(recording: Recording, file: BinaryIO) -> None:
    """asciicast v2. For another size, pace or theme: `tui-entropy replay FILE --cast`."""
    from tui_entropy.ui.terminal.detect import settle_colors

    settle_colors("truecolor")  # before Textual is imported
    from tui_entropy.trace.playback import Playback
    from tui_entropy.ui.app.replay_app import ReplayApp
    from tui_entropy.ui.capture import film

    clock = film.Clock()
    playback = Playback(recording.trace, recording.started.run, speed=1.0, first=0, clock=clock)
    for line in asyncio.run(film.film(ReplayApp(playback), clock, SIZE)):
        file.write(f"{line}\n".encode())
