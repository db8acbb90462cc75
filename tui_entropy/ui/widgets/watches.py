"""Strings that are followed: how probable each is where the cursor stands, and along the text."""

from __future__ import annotations

import math
from typing import ClassVar

from textual import events
from textual.strip import Strip

from tui_entropy.records import Step, Watch, Watched
from tui_entropy.steps import Steps
from tui_entropy.ui.glyphs import fitted, visible_bytes
from tui_entropy.ui.paint import Part, figure
from tui_entropy.ui.view import HEAVY, Frame, View

NAME, CELL = 16, 10
ABOUT = (
    "to first, to top: logit differences to the first of these texts, and to the most probable token; every 0.7 doubles "
    "the odds. Of a text with several tokens the first one is followed. ? is not known: not followed yet at that step."
)


class Watches(View):
    """A click chooses a row. What was not followed yet at a step is unknown there."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._steps: Steps | None = None
        self._seen: dict[int, tuple[Watched, ...]] = {}
        """Step -> what was followed there, for steps that were looked at."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, watches, step = frame.paint, frame.log.now.watches, frame.step
        heading = self.heading(frame, "watches", [*frame.where, "model, of the first token of each text"], width)
        wide = max(width - 6 - NAME - 4 * CELL - 2, 0)
        course = f"  {paint.root}probability, newest {wide}"[: wide + 2] if wide >= 10 else ""
        title = (
            f"{'':6}{'text':{NAME}}{'prob %':>{CELL}}{'rank':>{CELL}}{'to first':>{CELL}}{'to top':>{CELL}}{course}"
        )
        rows: list[list[Part]] = [[(title, paint.dim)]]
        first, count = self._rows(frame, height)
        for at in range(first, first + count):
            rows.append(self._row(frame, watches, at, step, wide))
        below = [] if height < 6 else [Strip([]), *paint.hint(ABOUT, width)]
        return [heading, *(paint.row(row, width) for row in rows), *below][:height]

    def on_click(self, event: events.Click) -> None:
        if self.frame is not None:
            first, rows = self._rows(self.frame, self.size.height)
            if 2 <= event.y < 2 + rows:
                self.post_message(self.RowAsked(first + event.y - 2))

    @staticmethod
    def _rows(frame: Frame, height: int) -> tuple[int, int]:
        """The first one shown and how many, with the one that adds; the chosen one is in view."""
        total = len(frame.log.now.watches) + 1
        rows = max(min(total, height - 5), 1)
        return min(max(frame.row - rows // 2, 0), total - rows), rows

    def _row(self, frame: Frame, watches: tuple[Watch, ...], at: int, step: Step | None, wide: int) -> list[Part]:
        paint = frame.paint
        chosen = at == min(frame.row, len(watches))
        pointer: Part = (paint.drawn if chosen else " ", paint.accent)
        if at >= len(watches):
            return [
                pointer,
                (f"{'+':>3}", paint.accent),
                ("  another one: a", paint.selected if chosen else paint.dim),
            ]
        watch, seen = watches[at], {one.token_id: one for one in step.watched} if step else {}
        one, first = seen.get(watch.token_id), seen.get(watches[0].token_id)
        top = step.candidates[0].logprob if step and step.candidates else None
        name = visible_bytes(watch.text.encode(), paint.ascii)
        if watch.n_tokens > 1:
            name = f"{visible_bytes(watch.data, paint.ascii)} of {name}"
        numbers = [
            figure(None if one is None else 100 * math.exp(one.logprob)),
            "?" if one is None else str(one.rank),
            _apart(one and one.logit, first and first.logit),
            _apart(one and one.logprob, top),
        ]
        return [
            pointer,
            (f"{at + 1:>3}  ", paint.dim),
            (fitted(name, NAME, paint.ascii), paint.selected if chosen else paint.base),
            ("".join(number.rjust(CELL) for number in numbers), paint.number),
            ("  ", paint.base),
            (self._course(frame, watch, wide), paint.model),
        ]

    def _course(self, frame: Frame, watch: Watch, wide: int) -> str:
        if wide < 10 or frame.cursor is None:
            return ""
        steps = frame.log.steps
        if self._steps is not steps:
            self._steps, self._seen = steps, {}
        line = ""
        for index in range(max(frame.cursor + 1 - wide, 0), frame.cursor + 1):
            if index < len(steps) and index not in self._seen:
                self._seen[index] = steps[index].watched
            watched = self._seen[index] if index < len(steps) else frame.step.watched if frame.step else ()
            known = [one.logprob for one in watched if one.token_id == watch.token_id]
            line += frame.paint.spark(math.exp(known[0] / 2) if known else None)
        return line


def _apart(value: float | None, other: float | None) -> str:
    return "?" if value is None or other is None else f"{value - other:+.2f}"
