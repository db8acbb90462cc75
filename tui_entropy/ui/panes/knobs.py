"""The knobs of the draw and the control vectors: applied, and asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.strip import Strip

from tui_entropy.records.knobs import KNOBS, brief, is_idle, is_off
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.items import place
from tui_entropy.ui.drawing.paint import Part, size_of
from tui_entropy.ui.keys.pane_words import PANES
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import View

GAP = 2
"""Cells between two stretches of the strip."""
CONDITION_CELLS = 24
"""Of a vector's condition, which may be long."""
POLICY = {False: "changes: from here on", True: "changes: text reread"}
"""What the next change of a vector does with the keys and values of the text before."""


@dataclass(frozen=True)
class Item:
    """A stretch of the strip that can be clicked."""

    parts: list[Part]
    message: View.KnobAsked | View.VectorAsked | None = None
    off: bool = False
    """Whether it gives way to those that do something."""

    @property
    def width(self) -> int:
        return size_of(self.parts)


class KnobStrip(View, can_focus=True):
    """A click chooses a knob, and keys of the strip act on it then; or it switches a vector, and keys stay as they
    are."""

    FOCUS_ON_CLICK = False
    ABOUT: ClassVar[str] = PANES["knobs"]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._look: tuple[object, ...] = ()
        self._strips: list[Strip] = []

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """As it was drawn before, unless something that it shows is another: most tokens are nothing to it."""
        log = frame.log
        look = (
            frame.paint, log.card, width, height, self.has_focus, frame.knob, frame.typed, frame.rebuild,
            frame.knobs, log.knobs, log.given_knobs, frame.vectors, log.vectors,
            *(_strength(frame, vector) for vector in frame.vectors or log.vectors if vector.schedule),
        )  # fmt: skip
        if look != self._look:
            self._look, lines = look, self._lines(frame, width, height)[:height]
            gap = (" " * GAP, frame.paint.base)
            self._strips = [
                frame.paint.row([part for item in line for part in (*item.parts, gap)][:-1], width) for line in lines
            ]
        return self._strips

    def on_click(self, event: events.Click) -> None:
        if self.frame is None:
            return
        lines = self._lines(self.frame, self.size.width, self.size.height)
        x = event.x
        for item in lines[event.y] if event.y < len(lines) else []:
            if 0 <= x < item.width and item.message:
                self.post_message(item.message)
            x -= item.width + GAP

    def _lines(self, frame: Frame, width: int, height: int) -> list[list[Item]]:
        """Knobs, then vectors on a line of their own where there is more than one. Knobs that are off give way."""
        title = Item([("knobs", frame.paint.focused if self.has_focus else frame.paint.title)])
        vectors = [Item([("vectors", frame.paint.title)]), *_vectors(frame)]
        knobs = list(self._knobs(frame))
        idle = sum(item.off for item in knobs)
        if height < 2:
            return _lines([title, *_without_last(knobs, idle), *vectors], width, 1)
        rows = height - 1
        for n in range(idle + 1):
            shown = [title, *_without_last(knobs, n)]
            lines = _lines(shown, width, rows)
            if sum(map(len, lines)) == len(shown):
                break
        return [*lines, *_lines(vectors, width, 1)]

    def _knobs(self, frame: Frame) -> Iterator[Item]:
        """All knobs but those that could do nothing. One that a server is not told has the word for it."""
        paint, applied, asked = frame.paint, frame.log.knobs, frame.knobs
        server = frame.log.card.server if frame.log.card else None
        ignored, given = server.ignored_knobs if server else (), frame.log.given_knobs
        for knob in KNOBS:
            name = knob.name
            if given is not None and name not in given:
                continue
            chosen = self.has_focus and name == frame.knob
            now, wanted = _value(applied, name), _value(asked, name)
            pending = now != wanted
            if not (pending or chosen) and is_idle(asked, name):
                continue
            parts: list[Part] = [(f"{paint.ours(knob.short)} ", paint.selected if chosen else paint.dim)]
            if name in ignored:
                if now == "off" and not pending and not chosen:
                    continue
                parts.append((f"{wanted} ignored", paint.dim))
            elif pending:
                parts += [(f"{now}{paint.arrow}", paint.dim), (wanted, paint.warning)]
            else:
                parts.append((now, paint.dim if now == "off" else paint.number))
            if chosen and frame.typed:
                parts.append((f" {frame.typed}_", paint.cursor))
            yield Item(parts, self.KnobAsked(name), off=now == "off" and not pending and not chosen)
        if given is not None:
            about = "all else as the server has it" if given else "as the server has them: the request set none"
            about = about if frame.log.run_number else "each request brings its own"
            yield Item([(about, paint.dim)])


def _value(knobs: Knobs, name: str) -> str:
    if name == "temperature" and knobs.temperature == 0:
        return "0 greedy"
    if name != "temperature" and is_off(knobs, name):
        return "off"
    value = getattr(knobs, name)
    return f"{value:.2f}" if isinstance(value, float) and round(value, 2) == value else brief(knobs, name)


def _vectors(frame: Frame) -> Iterator[Item]:
    paint = frame.paint
    applied = {vector.name: vector for vector in frame.log.vectors}
    vectors = frame.vectors or frame.log.vectors
    if not vectors:
        is_steered = frame.log.capabilities.can("set-vector")
        why = "none: this server is not steered" if not is_steered else "none: start with --vector FILE to load one"
        yield Item([(why, paint.dim)])
    for n, vector in enumerate(vectors):
        pending = applied.get(vector.name) != vector
        style = paint.warning if pending else paint.number if vector.on else paint.dim
        dot = paint.dot_on if vector.on else paint.dot_off
        name = visible(vector.name, paint.ascii, in_table=True)
        key = str(n + 1) if n < 9 else " "
        parts = [
            (key, paint.accent),
            (f"{dot} ", style),
            (f"{name} {_strength(frame, vector)}{_layers(vector)}{_condition(frame, vector)}", style),
        ]
        yield Item(parts, View.VectorAsked(n))
    if vectors:
        yield Item([("O ", paint.accent), (POLICY[frame.rebuild], paint.warning if frame.rebuild else paint.dim)])


def _strength(frame: Frame, vector: Vector) -> str:
    """At the next step; one that changes from step to step has a mark."""
    now = vector.strength_at(len(frame.log.steps) + 1)
    return f"{frame.paint.times}{now:.4g}" if vector.part else f"{now:+.1f}{'~' if vector.schedule else ''}"


def _condition(frame: Frame, vector: Vector) -> str:
    ascii = frame.paint.ascii
    text = fitted(visible(vector.condition, ascii, in_table=True), CONDITION_CELLS, ascii).rstrip()
    return f" if {text}" if text else ""


def _layers(vector: Vector) -> str:
    if vector.first is None and vector.last is None:
        return ""
    return f" [{vector.first or ''}-{vector.last or ''}]"


def _without_last(items: list[Item], n: int) -> list[Item]:
    """Without the last n of those that are off."""
    off = [item for item in items if item.off]
    gone = {id(item) for item in off[len(off) - n :]}
    return [item for item in items if id(item) not in gone]


def _lines(items: list[Item], width: int, rows: int) -> list[list[Item]]:
    laid = place([[item.width] for item in items], width, GAP, rows)
    return [[items[one.item] for one in line] for line in laid]
