"""The breakpoints, and what their expressions can be made of, with its value at the step under the cursor."""

from __future__ import annotations

from textual.strip import Strip

from tui_entropy.breakpoints.condition import ConditionError, quoted
from tui_entropy.breakpoints.parser import parse
from tui_entropy.breakpoints.terms import INDEXED, NAMES, SHOWN_IN, Name
from tui_entropy.metrics.metric import LN2
from tui_entropy.records.settings import Breakpoint
from tui_entropy.records.step import Step
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible
from tui_entropy.ui.drawing.paint import Part, figure, size_of
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.list_view import Rows

HITS, CELL = 7, 26
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
        rows = [heading, names, *self.listed(frame, width, height)]
        below = _language(frame, width, height - len(rows))
        return [*rows, *(paint.row(line, width) for line in below)][:height]

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


def _language(frame: Frame, width: int, room: int) -> list[list[Part]]:
    """The help on writing one: what can be named, with its present value; names whose value is known come first."""
    paint, step = frame.paint, frame.seen
    examples: list[list[Part]] = [[(example, paint.accent)] for example in EXAMPLES]
    signs = "< <= > >= == != + - * / %  and or not ( )  ~ finds a pattern, !~ does not"
    rows = [[], *_grid(frame, [[("such as", paint.title)], *examples], width), [(signs, paint.dim)], []]
    by_use = sorted(NAMES.items(), key=lambda one: one[0] != "text" and (step is None or one[1].read(step) is None))
    names = [[(f"{name} ", paint.base), *_value(frame, meant, step)] for name, meant in by_use]
    names += [[(index.split("such as ")[-1], paint.base)] for index in INDEXED.values()]
    where = frame.where[0] if step else "no step yet"
    grid = _grid(frame, names, width)
    cut = "" if len(grid) < room - len(rows) else ", as many as fit"
    return [
        *rows,
        [("what can be named, and what it is at ", paint.title), (where, paint.accent), (cut, paint.dim)],
        *grid,
    ]


def _value(frame: Frame, name: Name, step: Step | None) -> list[Part]:
    paint, value = frame.paint, name.read(step) if step else None
    if value is None:
        return [("the whole text" if name is NAMES["text"] else "?", paint.dim)]
    if name.kind == "text":
        text = fitted(quoted(value), min(cells(quoted(value)), CELL // 2), paint.ascii)
        return [(visible(text, paint.ascii, True), paint.number)]
    if name.kind == "truth":
        return [("true" if value else "false", paint.number)]
    unit = paint.ours(SHOWN_IN.get(name.kind, ""))
    value /= LN2 ** {"information": 1, "information²": 2}.get(name.kind, 0)
    number = f"{value:.0f}" if value.is_integer() and not unit else figure(value)
    return [(number, paint.number), (f" {unit}".rstrip(), paint.dim)]


def _grid(frame: Frame, groups: list[list[Part]], width: int) -> list[list[Part]]:
    """In columns; what is wider than one takes two."""
    rows: list[list[Part]] = [[]]
    used = 0
    for group in groups:
        size = size_of(group)
        begin = -(-(used + 2) // CELL) * CELL if used else 0
        if begin + size > width:
            rows.append([])
            used = begin = 0
        rows[-1] += [(" " * (begin - used), frame.paint.base), *group]
        used = begin + size
    return rows
