"""Key hints: the bottom line. What can be pressed now, or one sentence to the person."""

from __future__ import annotations

from functools import lru_cache

from rich.style import Style
from textual.strip import Strip

from tui_entropy.knobs import BY_NAME as KNOB
from tui_entropy.ui.glyphs import cells, visible
from tui_entropy.ui.keys import KEYS, PAGES, Key, holds, named
from tui_entropy.ui.paint import Part
from tui_entropy.ui.view import Frame, View

ALWAYS = ("help", "quit")
BY_ID = {key.id: key for key in KEYS}
ORDER = (
    "pause", "step", "back", "prompt", "temperature.down", "vector.1", "numbers", "waterfall", "layers", "quadrants",
    "heads", "attention", "strip", "again", "tint", "stop", "zoom",
)  # fmt: skip
"""Outside the panes with keys of their own: the most useful first, since a narrow line shows only the first ones."""
AT_STOP = (
    "pause", "take", "candidate.up", "step", "ban", "force", "back", "sentence", "breakpoints", "watches",
    "temperature.down", "vector.1", "waterfall", "prompt", "numbers", "layers",
)  # fmt: skip
"""The same while writing rests."""
ALSO = {page: ("pause", "back", "unit") for page in PAGES} | {
    "numbers": ("back", "unit"), "quadrants": ("adaptive", "pause", "back", "unit"),
    "ask": (), "breakpoints": ("back",), "watches": ("pause", "back"),
    "replay": ("pause", "step", "back", "follow", "numbers", "waterfall", "layers", "quadrants", "unit"),
}  # fmt: skip
"""Keys of everywhere that matter on a page."""
ON = {
    "back": " →", "temperature.down": " T", "vector.1": "-9", "strip.up": " ↓", "strip.left": " →",
    "lanes.hotter": " -", "fan.more": " -", "fan.longer": " <",
    "stage.before": " .", "stage.earlier": " >", "page.row.up": " ↓", "replay.slower": " >", "replay.before": " )",
    "candidate.up": " ↓",
}  # fmt: skip
"""The first key of a row of alike ones, and how the row goes on."""


class Hints(View, can_focus=False):
    """Each hint can be clicked."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        if frame.notice:
            return [
                frame.paint.row(
                    [(frame.paint.ours(visible(frame.notice, frame.paint.ascii)), frame.paint.accent)], width
                )
            ]
        always = [] if frame.place not in ("", "replay") else [BY_ID[name] for name in ALWAYS]
        right = [part for key in always for part in hint(frame, key)]
        left = [part for key in wanted(frame) for part in hint(frame, key)]
        about: list[Part] = []
        if frame.place == "knobs":  # what the chosen knob does and costs, before it is turned
            about = [(f"{frame.paint.ours(KNOB[frame.knob].about)}  ", frame.paint.base)]
        room = width - sum(cells(text) for text, _ in [*about, *right])
        return [frame.paint.row([*about, *whole(left, room)], width, right)]


def wanted(frame: Frame) -> list[Key]:
    """The keys that help now, the most useful first."""
    if frame.place:
        own = [key for key in KEYS if key.hint and key.where and holds(key.where, frame.place)]
        return [*own, *(BY_ID[name] for name in ALSO.get(frame.place, ()))]
    first = []
    if frame.log.state in ("failed", "lost"):
        first.append("restart")
    if not frame.following:
        first.append("follow")
    stopped = frame.log.state == "paused" or not frame.following
    return [BY_ID[name] for name in (*first, *(AT_STOP if stopped else ORDER))]


def hint(frame: Frame, key: Key) -> list[Part]:
    word = "go on" if key.id == "pause" and frame.log.state == "paused" else key.hint
    name = named(key.keys.split(",")[0], frame.paint.ascii)
    if key.id in ON and not (frame.paint.ascii and ON[key.id].isascii() is False):
        name += ON[key.id]
    return [
        (f"{name} ", clickable(frame.paint.number, key.action)),
        (f"{word}  ", clickable(frame.paint.dim, key.action)),
    ]


def whole(parts: list[Part], room: int) -> list[Part]:
    """As many hints (two parts each) as fit uncut."""
    kept: list[Part] = []
    for name, word in zip(parts[::2], parts[1::2], strict=True):
        room -= cells(name[0]) + cells(word[0])
        if room < 0:
            break
        kept += [name, word]
    return kept


@lru_cache(256)
def clickable(style: Style, action: str) -> Style:
    return style + Style(meta={"@click": f"app.{action}"})
