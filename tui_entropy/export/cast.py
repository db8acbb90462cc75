"""The run as its replay draws it: a film for asciinema, at the pace it was written."""

from __future__ import annotations

import asyncio
from typing import BinaryIO

from tui_entropy.export.recording import Recording

SIZE = (120, 36)


def write(recording: Recording, file: BinaryIO) -> None:
    """asciicast v2. For another size, pace or theme: `tui-entropy replay FILE --cast`."""
    from tui_entropy.ui.start import settle_colors

    settle_colors("truecolor")  # before Textual is imported
    from tui_entropy.ui import pictures
    from tui_entropy.ui.playback import Playback
    from tui_entropy.ui.replay import ReplayApp

    clock = pictures.Clock()
    playback = Playback(recording.trace, recording.started.run, speed=1.0, first=0, clock=clock)
    for line in asyncio.run(pictures.film(ReplayApp(playback), clock, SIZE)):
        file.write(f"{line}\n".encode())
