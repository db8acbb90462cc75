"""A recording as a film in the asciicast format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.color import ColorSystem
from rich.console import Console
from textual.strip import Strip

from tui_entropy.trace.playback import Playback
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.capture.snapshot import on_stage, screen, write_files
from tui_entropy.ui.drawing.glyphs import visible
from tui_entropy.ui.drawing.paint import Paint

FRAME = 1 / 20
"""Seconds between two pictures of a film, at least."""
SYSTEMS = {
    "truecolor": ColorSystem.TRUECOLOR, "256": ColorSystem.EIGHT_BIT, "16": ColorSystem.STANDARD, "mono": None,
}  # fmt: skip


def record(file: Path, playback: Playback, clock: Clock, size: tuple[int, int], paint: Paint) -> None:
    """A film of the playback, saved. Raises UserError."""
    lines = asyncio.run(film(ReplayApp(playback, paint=paint), clock, size))
    write_files({file: "".join(f"{line}\n" for line in lines).encode()})


# --- Films -------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def film(app: ReplayApp, clock: Clock, size: tuple[int, int]) -> list[str]:
    """The lines of an asciicast v2 file: the playback from where it is to its end, with a marker at every token.

    clock: the playback's own. The picture is drawn at most 20 times a second, and only rows that changed are in it.
    """
    playback, console = app.playback, Console(color_system=None)
    console._color_system = SYSTEMS[app.frame.paint.color]
    header = {"version": 2, "width": size[0], "height": size[1], "title": playback.trace.path.name}
    lines = [json.dumps(header)]
    before: list[Strip] = []
    async with on_stage(app, size) as pilot:
        tokens = len(playback.log.steps)
        while True:
            app.come_to()
            await pilot.pause(0)
            rows = screen(app)
            lines.append(_event(clock.now, "o", "".join(_changes(console, before, rows))))
            for index in range(tokens, len(playback.log.steps)):
                label = f"token {index + 1} {visible(playback.log.steps.texts[index], in_table=True)}"
                lines.append(_event(clock.now, "m", label))
            before, tokens = rows, len(playback.log.steps)
            if (wait := playback.wait) is None:
                return lines
            clock.now += max(wait, FRAME)
            playback.advance()


def _event(at: float, code: str, data: str) -> str:
    return json.dumps([round(at, 3), code, data], ensure_ascii=False)


def _changes(console: Console, before: Sequence[Strip], rows: Sequence[Strip]) -> Iterator[str]:
    """The bytes that turn one screen into the next on a terminal."""
    if not before:
        yield "\x1b[?25l\x1b[2J"
    for y, row in enumerate(rows):
        if y >= len(before) or row != before[y]:
            yield f"\x1b[{y + 1};1H{row.render(console)}"
