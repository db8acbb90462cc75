"""Key hints: the bottom line. What can be pressed now, or one sentence to the person."""

from __future__ import annotations

from functools import lru_cache

from rich.style import Style
from textual.strip import Strip

from tui_entropy.records.knobs import BY_NAME as KNOB
from tui_entropy.ui.drawing.glyphs import cells, visible
from tui_entropy.ui.drawing.paint import Part, size_of
from tui_entropy.ui.keys.keymap import BY_ID, KEYS, PAGES, Key, first_key, holds, keys_of
from tui_entropy.ui.keys.needs import offered
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.jump_targets import JumpState
from tui_entropy.ui.views.view import View

ALWAYS = ("help", "quit")
ORDER = (
    "pause", "step", "back", "prompt", "temperature.down", "vector.1", "numbers", "waterfall", "layers", "quadrants",
    "heads", "attention", "strip", "again", "tint", "stop", "zoom",
)  # fmt: skip
"""Outside the panes with keys of their own: the most useful first, since a narrow line shows only the first ones."""
AT_STOP = (
    "pause", "take", "candidate.up", "step", "target.next", "search", "ban", "force", "back", "sentence",
    "breakpoints", "watches", "temperature.down", "vector.1", "waterfall", "prompt", "numbers", "layers",
)  # fmt: skip
"""The same while writing rests, or an earlier step is looked at."""
AT_END = (
    "pause", "step", "again", "prompt", "back", "target.next", "search", "edit", "branches", "temperature.down",
    "vector.1", "numbers", "waterfall", "layers", "quadrants", "heads", "attention", "strip", "tint", "zoom",
)  # fmt: skip
"""The same when nothing is being written."""
ALSO = {page: ("pause", "back", "unit") for page in PAGES} | {
    "numbers": ("back", "unit"), "quadrants": ("adaptive", "pause", "back", "unit"),
    "ask": (), "breakpoints": ("back",), "watches": ("pause", "back"), "sessions": (),
    "replay": ("pause", "step", "back", "target.next", "search", "follow", "numbers", "waterfall", "layers",
        "quadrants", "unit"),
}  # fmt: skip
"""Keys of everywhere that matter on a page."""
OF_PANE = {
    "chart": ("chart", "target.next", "zoom"),
    "candidates": ("candidate.up", "take", "ban", "waterfall", "zoom"),
    "heads": ("layer.down", "head.down", "head.kind", "head.changes", "zoom"),
    "attention": ("layer.down", "head.down", "zoom"),
}
"""The same while a pane without keys of its own has the focus: those that act on it come first."""
PAIRS = {
    "layer.down": "layer.up", "head.down": "head.up",
    "back": "on", "target.next": "target.before", "temperature.down": "temperature.up",
    "strip.up": "strip.down", "strip.left": "strip.right",
    "lanes.hotter": "lanes.cooler", "fan.more": "fan.fewer", "fan.longer": "fan.shorter",
    "stage.before": "stage.after", "stage.earlier": "stage.later", "page.row.up": "page.row.down",
    "replay.slower": "replay.faster", "replay.before": "replay.after", "candidate.up": "candidate.down",
}  # fmt: skip
"""A key and the one that does the opposite, which are offered together."""


CAPTION_STEPS = 16
"""Steps for which a change is told in a demo."""


class Hints(View, can_focus=False):
    """Each hint can be clicked."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        text = frame.paint.ours(visible(frame.notice, frame.paint.ascii))
        if frame.demo:
            return [*[Strip([])] * (height - 1), _caption(frame, text, width)]
        told = (text, frame.paint.accent) if text else (frame.paint.ours(frame.caption), frame.paint.title)
        notice: list[Part] = [told]
        if height > 1:
            return [frame.paint.row(notice, width), self._keys(frame, width, _about(frame))]
        first = [*notice, ("  ", frame.paint.base)] if frame.notice else _about(frame)
        return [self._keys(frame, width, first)][:height]

    def _keys(self, frame: Frame, width: int, first: list[Part]) -> Strip:
        """The hints behind what stands first."""
        always = [] if frame.place not in ("", "replay") else [BY_ID[name] for name in ALWAYS]
        right = [part for key in always if acting(frame, key) for part in hint(frame, key)]
        left = [hint(frame, key) for key in useful_keys(frame)]
        right = right if size_of([*first, *right]) <= width else []
        fits = frame.paint.lines(left, width - size_of([*first, *right]), gap="")
        return frame.paint.row([*first, *(fits[0] if fits else [])], width, right)


def _about(frame: Frame) -> list[Part]:
    """What the chosen knob does and costs, before it is turned."""
    return [(f"{frame.paint.ours(KNOB[frame.knob].about)}  ", frame.paint.base)] if frame.place == "knobs" else []


def _caption(frame: Frame, notice: str, width: int) -> Strip:
    """What was done last and what came of it; where no key was pressed, what was changed at the step looked at."""
    paint = frame.paint
    if frame.caption:
        key, _, what = frame.caption.partition("  ")
        pressed = [(f" {key} ", paint.cursor), ("  ", paint.base)] if key else []
        parts: list[Part] = [*pressed, (paint.ours(what), paint.base)]
    else:
        at = frame.last if frame.cursor is None else frame.cursor
        changes = [mark.label for mark in frame.log.marks if 0 <= at - mark.index < CAPTION_STEPS]
        parts = [(visible(", ".join(changes), paint.ascii, True), paint.mark)]
    if notice:
        if size_of(parts) + 3 + cells(notice) > width:
            del parts[1:]  # what came of a key goes before what it is for
        parts.append((f"   {notice}", paint.accent))
    return paint.row(parts, width)


def useful_keys(frame: Frame) -> list[Key]:
    """The keys that help now, the most useful first. None of them would be refused."""
    return [key for key in _keys_here(frame) if acting(frame, key)]


def acting(frame: Frame, key: Key) -> list[Key]:
    """It and its opposite, as far as they act now."""
    both = [key, BY_ID[PAIRS[key.id]]] if key.id in PAIRS else [key]
    return [one for one in both if offered(frame, one)]


def _keys_here(frame: Frame) -> list[Key]:
    first = [BY_ID[name] for name in OF_PANE.get(frame.focus, ())] if frame.place in ("", "replay") else []
    return list(dict.fromkeys([*first, *_keys_of_place(frame)]))


def _keys_of_place(frame: Frame) -> list[Key]:
    if frame.place:
        own = [key for key in KEYS if key.hint and key.where not in ("", "usual") and holds(key.where, frame.place)]
        return [*own, *(BY_ID[name] for name in ALSO.get(frame.place, ()))]
    first = [BY_ID["restart"]] + ([] if frame.following else [BY_ID["follow"]])
    stopped = frame.log.state == "paused" or not frame.following
    going = frame.log.state in ("reading", "writing")
    return [*first, *(BY_ID[name] for name in (AT_STOP if stopped else ORDER if going else AT_END))]


def hint(frame: Frame, key: Key) -> list[Part]:
    """A key that acts, or whose opposite does."""
    word = "go on" if key.id == "pause" and (frame.log.state == "paused" or frame.log.stopped) else key.hint
    if key.id == "target.next":
        word = frame.of(JumpState).kind
    act = acting(frame, key)
    return [
        (f"{_spelled(frame, act)} ", clickable(frame.paint.number, act[0].action)),
        (f"{word}  ", clickable(frame.paint.dim, act[0].action)),
    ]


def _spelled(frame: Frame, keys: list[Key]) -> str:
    """The first key of each; of the vectors as many as there are."""
    spelled = " ".join(first_key(keys_of(key, frame.keymap), frame.paint.ascii) for key in keys)
    n = min(len(frame.vectors), 9)
    return f"{spelled}-{n}" if keys[0].id == "vector.1" and n > 1 else spelled


@lru_cache(256)
def clickable(style: Style, action: str) -> Style:
    return style + Style(meta={"@click": f"app.{action}"})
