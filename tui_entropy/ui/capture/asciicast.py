"""A film in the asciicast format, which asciinema plays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.color import ColorSystem
from rich.console import Console
from textual.strip import Strip

from tui_entropy.ui.capture.moment import Moment
from tui_entropy.ui.drawing.paint import ColorMode

SYSTEMS: dict[ColorMode, ColorSystem | None] = {
    "truecolor": ColorSystem.TRUECOLOR, "256": ColorSystem.EIGHT_BIT, "16": ColorSystem.STANDARD, "mono": None,
}  # fmt: skip


class Asciicast:
    """The lines of an asciicast v2 file: rows that changed, and a marker at every token."""

    def __init__(self, size: tuple[int, int], title: str, color: ColorMode) -> None:
        self._console = Console(color_system=None)
        self._console._color_system = SYSTEMS[color]
        self._before: list[Strip] = []
        self.header = json.dumps({"version": 2, "width": size[0], "height": size[1], "title": title})

    def lines(self, moment: Moment) -> Iterator[str]:
        """Those of the next screen."""
        yield _event(moment.at, "o", "".join(self._changes(moment.rows)))
        self._before = moment.rows
        for label in moment.markers:
            yield _event(moment.at, "m", label)

    def _changes(self, rows: Sequence[Strip]) -> Iterator[str]:
        """The bytes that turn the screen before into this one on a terminal."""
        if not self._before:
            yield "\x1b[?25l\x1b[2J"
        for y, row in enumerate(rows):
            if y >= len(self._before) or row != self._before[y]:
                yield f"\x1b[{y + 1};1H{row.render(self._console)}"


def _event(at: float, code: str, data: str) -> str:
    return json.dumps([round(at, 3), code, data], ensure_ascii=False)
