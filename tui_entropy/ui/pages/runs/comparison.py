"""Another mind for the same text: what it may differ in, what it costs, and what it would have done."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from statistics import fmean, median
from typing import Any, ClassVar

from textual.strip import Strip

from tui_entropy.metrics.metric import LN2
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.step import Step
from tui_entropy.ui.drawing.glyphs import fitted, visible, visible_token
from tui_entropy.ui.drawing.paint import Paint, Part, figure
from tui_entropy.ui.keys.lane_choices import choices, shadow_set
from tui_entropy.ui.keys.needs import acts
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View, around
from tui_entropy.ui.views.wording import wrap

KL, FLIP, FOREIGN, FORWARD = (BY_NAME[name] for name in ("kl", "flip", "by lane", "forward pass"))
RECENT_STEPS = 32
"""Steps with a shadow, and without one, whose cost is compared."""
NAME = 22


class Lanes(View):
    """Choices on top, and below them the steps around the cursor."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint = frame.paint
        head = [self.heading(frame, "lanes", [_running(frame), *frame.where_of_all], width)]
        summary = [line for whole in _summary(frame, width) for line in wrap(whole, width)]
        listed = _choices(frame, max(height // 3, 1))
        lines = [[(_what(frame), paint.dim)], *listed, [], *summary, []]
        room = height - len(head) - len(lines)
        return [*head, *(paint.row(line, width) for line in [*lines, *_table(frame, width, room)])][:height]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        return {"row": min(max(frame.row + by, 0), len(choices(frame)) - 1)}


def _what(frame: Frame) -> str:
    shadow, twin = (f" ({key})" if acts(frame, name) else "" for name, key in (("shadow", "S"), ("twin", "Y")))
    return f"what a shadow{shadow} or a twin{twin} differs in"


def _running(frame: Frame) -> list[Part]:
    """The shadow that is set, and how it runs or from when on."""
    paint, run, wanted = frame.paint, frame.log.run, shadow_set(frame)
    how = run.shadow_how if wanted == run.shadow else "from the next token on"
    note = f", {visible(how, paint.ascii, True)}" if how else ""
    if wanted is None:
        return [(f"no shadow{' runs' * (not how)}{note}", paint.dim)]
    return [("shadow: ", paint.dim), (f"{visible(wanted.name, paint.ascii, True)}{note}", paint.accent)]


def _choices(frame: Frame, room: int) -> list[list[Part]]:
    paint, shadow = frame.paint, shadow_set(frame)
    lanes = choices(frame)
    at = min(frame.row, len(lanes) - 1)
    lines = []
    for n, choice in list(enumerate(lanes))[around(at, len(lanes), room)]:
        name = fitted(visible(choice.name, paint.ascii, True), NAME, paint.ascii)
        runs = shadow is not None and shadow.name == choice.name
        line = [
            (paint.drawn if n == at else " ", paint.accent),
            (f" {paint.dot_on if runs else paint.dot_off} ", paint.good if runs else paint.dim),
            (name, paint.selected if n == at else paint.dim if choice.same else paint.base),
            (f" {visible(choice.about, paint.ascii, True)}", paint.dim),
        ]
        lines.append(line)
    return lines


def _summary(frame: Frame, width: int) -> Iterator[list[Part]]:
    """The cost of the comparison, and what it comes to over the text."""
    paint = frame.paint
    known = [value for value in frame.log.steps.values(KL) if value is not None]
    if not known:
        yield [(_unknown(frame), paint.dim)]
        return
    yield _cost(frame)
    n, flips = len(known), sum(value or 0 for value in frame.log.steps.values(FLIP))
    foreign = [index for index, value in enumerate(frame.log.steps.values(FOREIGN)) if value]
    yield [
        (f"over {n} tokens: mean KL ", paint.dim),
        (figure(KL.shown(fmean(known), frame.bits)), paint.number),
        (f" {frame.unit}{paint.between}top-1 flips ", paint.dim),
        (f"{flips:.0f}", paint.number),
        (f" ({100 * flips / n:.0f} %){paint.between}by the lane only ", paint.dim),
        (f"{len(foreign)}", paint.number),
        (f" ({100 * len(foreign) / n:.0f} %)", paint.dim),
    ]
    first = foreign[0] if foreign else None
    if first is not None and (shadow := frame.log.steps[first].shadow):
        took, would = (
            _token(frame.log.steps[first], paint),
            visible_token(shadow.would_id, shadow.would_bytes, paint.ascii),
        )
        yield [
            ("the first of them: step ", paint.dim),
            (f"{first + 1} {took}", paint.accent),
            (" where the shadow would have written ", paint.dim),
            (would, paint.accent),
        ]


def _unknown(frame: Frame) -> str:
    """Why no step has a shadow, and what to do about it."""
    if shadow_set(frame) is not None:
        return "Nothing is known yet: the shadow runs from the next token on."
    if "lane" in frame.lacking:
        return "No step of this text has a shadow."
    if frame.log.started is None:
        return "Nothing is known yet: there is no text that a shadow could run beside."
    if not acts(frame, "lanes.run"):
        return "Nothing is known yet: the chosen lane is what is set now, and one that differs can run as a shadow."
    does = "types the chosen lane, which runs" if acts(frame, "lanes.type") else "runs the chosen lane"
    return f"Nothing is known yet: enter {does} as a shadow from the next token on."


def _cost(frame: Frame) -> list[Part]:
    """Forward passes with a shadow against those without, of this text."""
    paint, steps = frame.paint, frame.log.steps
    pairs = list(zip(steps.values(FORWARD), steps.values(KL), strict=True))[::-1]
    two, one = (
        list(islice((seconds for seconds, kl in pairs if seconds and (kl is not None) == on), RECENT_STEPS))
        for on in (True, False)
    )
    if not one or not two:
        return [("its cost is known once this text has steps with it and without", paint.dim)]
    return [
        ("a forward pass with it costs ", paint.dim),
        (f"{median(two) / median(one):.2f}", paint.number),
        (f" times one without: {1000 * median(two):.1f} against {1000 * median(one):.1f} ms,", paint.dim),
        (f" medians of {len(two)} and {len(one)}", paint.dim),
    ]


COLUMNS = ("KL", "JS", "final JS", "entropy", "surpr.")


def _table(frame: Frame, width: int, room: int) -> Iterator[list[Part]]:
    """The steps around the cursor; changes are this lane's number less the shadow's."""
    paint, steps = frame.paint, frame.log.steps
    if frame.cursor is None or room < 3:
        return
    token, cell = (12, 9) if width < 100 else (20, 11)
    titles = "".join(name.rjust(cell) for name in COLUMNS)
    yield [(f"{'':{7 + token}}{'':{3 * cell}}{'lane less shadow':>{2 * cell}}", paint.dim)]
    yield [(f"{'step':>5}  {'token':<{token}}{titles}  top  would be", paint.dim)]
    shown = room - 2
    held_up = [frame.log.proposed] if frame.log.proposed else []
    for step in [*steps[around(frame.cursor, frame.last + 1, shown)], *held_up][:shown]:
        yield _row(frame, step, token, cell)


def _token(step: Step, paint: Paint) -> str:
    return visible_token(step.token_id, step.token_bytes, paint.ascii)


def _row(frame: Frame, step: Step, token: int, cell: int) -> list[Part]:
    paint, shadow = frame.paint, step.shadow
    here = step.index == frame.cursor
    name = fitted(_token(step, paint), token, paint.ascii)
    line: list[Part] = [
        (paint.drawn if here else " ", paint.accent),
        (f"{step.index + 1:>4}  ", paint.dim),
        (name, paint.selected if here else paint.base),
    ]
    if shadow is None:
        return [*line, ("  no shadow", paint.dim)]
    unit = LN2 if frame.bits else 1.0
    values = [figure(nats / unit) for nats in (shadow.kl, shadow.js, shadow.final_js)]
    values += [_signed(nats / unit) for nats in (step.entropy - shadow.entropy, step.surprisal - shadow.surprisal)]
    flipped = bool(step.candidates) and step.candidates[0].token_id != shadow.top_id
    line += [("".join(value.rjust(cell) for value in values), paint.number)]
    line += [(f"  {'flip' if flipped else 'same'}  ", paint.warning if flipped else paint.dim)]
    if shadow.would_id != step.token_id:
        return [
            *line,
            (f"{paint.foreign} {visible_token(shadow.would_id, shadow.would_bytes, paint.ascii)}", paint.accent),
        ]
    return [*line, ("the same", paint.dim)]


def _signed(value: float) -> str:
    shown = figure(value)
    return shown if shown.startswith(("-", "?")) else f"+{shown}"
