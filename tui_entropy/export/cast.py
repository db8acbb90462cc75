"""The run as its replay draws it: a film for asciinema, at the pace it was written."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from tui_entropy.export.recorded_run import Recording

SIZE = (120, 36)


def write(recording: Recording, file: BinaryIO) -> None:
    """asciicast v2. For another size, pace or theme: `tui-entropy replay FILE --cast`."""
    from tui_entropy.ui.terminal.detect import settle_colors

    settle_colors("truecolor")  # before Textual is imported
    from tui_entropy.trace.playback import Playback
    from tui_entropy.ui.capture import film, moment
    from tui_entropy.ui.drawing.paint import Paint

    clock = moment.Clock()
    playback = Playback(recording.trace, recording.started.run, speed=1.0, first=0, clock=clock)
    file.write(film.encode(Path("run.cast"), playback, clock, SIZE, Paint()))
