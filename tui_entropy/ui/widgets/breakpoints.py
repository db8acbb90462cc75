"""The breakpoints, and what their expressions can be made of, with its value at the step under the cursor."""

from __future__ import annotations

from collections.abc import Iterator

from textual.strip import Strip

from tui_entropy.conditions import ConditionError, parse, quoted
from tui_entropy.records import Breakpoint, Step
from tui_entropy.series import LN2
from tui_entropy.terms import INDEXED, NAMES, SHOWN_IN, Name
from tui_entropy.ui.glyphs import cells, fitted, visible
from tui_entropy.ui.paint import Part, figure
from tui_entropy.ui.rows import Rows
from tui_entropy.ui.view import Frame

HITS = 7
EXAMPLES = (
    "entropy > 3 bits", "varentropy > 2 and rank > 5", 'token == " Paris"', 'text ~ "(?i)sorry"', "step % 50 == 0",
    'state == "Uncertain"', "head[5,3] < 0.2", "kl > 0.5", 'p[" Yes"] > 0.1',
)  # fmt: skip


class Breakpoints(Rows):
    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, known = frame.paint, frame.log.breakpoints
        on = f"{sum(one.enabled for one in known)} of {len(known)} on"
        heading = self.heading(
            frame, "breakpoints", [on, "writing stops before a token for which one is true"], width
        )
        names = paint.row([(f"{'':6}{'hits':>{HITS}}  stop before a token when", paint.dim)], width)
        below = [paint.row(line, width) for line in [[], *_packed(frame, _language(frame), width)]]
        return [heading, names, *self.listed(frame, width, height), *below][:height]

    def items(self, frame: Frame) -> int:
        return len(frame.log.breakpoints)

    def item(self, frame: Frame, at: int, width: int, chosen: bool) -> list[Part]:
        paint, one = frame.paint, frame.log.breakpoints[at]
        number = paint.number if one.enabled else paint.dim
        notes = [
            *(["stopped here"] if one.id == frame.log.stopped_by else []),
            *([] if one.enabled else ["off"]),
            *([visible(one.note, paint.ascii, True)] if one.note else []),
        ]
        wide = max(min(width - 16 - HITS, 60), 4)
        return [
            (f"{one.id:>3} ", paint.dim),
            (paint.dot_on if one.enabled else paint.dot_off, paint.good if one.enabled else paint.dim),
            (f"{one.hits:>{HITS}}  ", number),
            (fitted(_spelled(frame, one), wide, paint.ascii), paint.selected if chosen else paint.base),
            (f"  {', '.join(notes)}", paint.warning),
        ]


def _spelled(frame: Frame, one: Breakpoint) -> str:
    """With every unit."""
    try:
        spelled = parse(one.expression, frame.log.card).canonical()
    except ConditionError:
        spelled = one.expression
    return visible(frame.paint.ours(spelled), frame.paint.ascii, True)


def _language(frame: Frame) -> Iterator[list[Part]]:
    """What can be named and what it is now, then the rest of the language."""
    paint, step = frame.paint, frame.seen
    where = frame.where[0] if step else "no step yet"
    yield [("names, and their values at ", paint.title), (f"{where}:", paint.accent)]
    for name, meant in NAMES.items():
        yield [(f"{name} ", paint.base), *_value(frame, meant, step)]
    for name, index in INDEXED.items():
        yield [(f"{name}[...] ", paint.base), (index.removeprefix("a ").split(", such as ")[0], paint.dim)]
    yield [("operators: ", paint.title), ("< <= > >= == != + - * / % and or not ( )", paint.base)]
    yield [("~ !~ ", paint.base), ("a pattern is found, or is not", paint.dim)]
    yield [("examples: ", paint.title)]
    for example in EXAMPLES:
        yield [(example, paint.accent)]


def _value(frame: Frame, name: Name, step: Step | None) -> list[Part]:
    paint, value = frame.paint, name.read(step) if step else None
    if name.kind == "text":
        text = "text" if value is None else fitted(quoted(value), min(cells(quoted(value)), 20), paint.ascii)
        return [(visible(text, paint.ascii, True), paint.dim if value is None else paint.number)]
    if name.kind == "truth":
        return [("?" if value is None else "true" if value else "false", paint.number)]
    unit = paint.ours(SHOWN_IN.get(name.kind, ""))
    power = {"information": 1, "information²": 2}.get(name.kind, 0)
    return [(figure(None if value is None else value / LN2**power), paint.number), (f" {unit}".rstrip(), paint.dim)]


def _packed(frame: Frame, parts: Iterator[list[Part]], width: int) -> list[list[Part]]:
    """In as few rows as they fit into whole; what has a title begins a row."""
    rows: list[list[Part]] = [[]]
    room = 0
    for group in parts:
        size = sum(cells(text) for text, _ in group) + 3
        if size > room or group[0][1] is frame.paint.title:
            rows.append([])
            room = width + 3
        rows[-1] += [*group, ("   ", frame.paint.base)]
        room -= size
    return rows[1:]
