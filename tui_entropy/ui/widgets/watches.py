"""Strings that are followed: how probable each is where the cursor stands, and along the text."""

from __future__ import annotations

import math
from typing import ClassVar

from textual.strip import Strip

from tui_entropy.records import Watch, Watched
from tui_entropy.steps import Steps
from tui_entropy.ui.glyphs import fitted, visible_bytes
from tui_entropy.ui.paint import Part, figure
from tui_entropy.ui.rows import Rows
from tui_entropy.ui.view import HEAVY, Frame

NAME, CELL = 16, 10
ABOUT = (
    "to first, to top: logit difference to the first of these texts, and to the most probable token; 0.7 is twice as "
    "likely. Of a text with several tokens the first one is followed. ? is unknown: not followed at that step."
)


class Watches(Rows):
    """What was not followed yet at a step is unknown there."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._steps: Steps | None = None
        self._seen: dict[int, tuple[Watched, ...]] = {}
        """Step -> what was followed there, for steps that were looked at."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint = frame.paint
        heading = self.heading(frame, "watches", [*frame.where, "model, of the first token of each text"], width)
        wide = _room(width)
        course = f"  {paint.root}probability, newest {wide}"[: wide + 2] if wide else ""
        names = (
            f"{'':6}{'text':{NAME}}{'prob %':>{CELL}}{'rank':>{CELL}}{'to first':>{CELL}}{'to top':>{CELL}}{course}"
        )
        rows = [paint.row([(names, paint.dim)], width), *self.listed(frame, width, height)]
        return [heading, *rows, Strip([]), *paint.hint(ABOUT, width)][:height]

    def items(self, frame: Frame) -> int:
        return len(frame.log.now.watches)

    def item(self, frame: Frame, at: int, width: int, chosen: bool) -> list[Part]:
        paint, step, watches = frame.paint, frame.step, frame.log.now.watches
        watch, seen = watches[at], {one.token_id: one for one in step.watched} if step else {}
        one, first = seen.get(watch.token_id), seen.get(watches[0].token_id)
        name = visible_bytes(watch.text.encode(), paint.ascii)
        if watch.n_tokens > 1:
            name = f"{visible_bytes(watch.data, paint.ascii)} of {name}"
        numbers = ["?"] * 4
        if one is not None and step is not None:
            top = step.candidates[0].logprob if step.candidates else math.nan
            apart = [one.logit - first.logit if first else math.nan, one.logprob - top]
            known = ["?" if math.isnan(value) else f"{value:+.2f}" for value in apart]
            numbers = [figure(100 * math.exp(one.logprob)), str(one.rank), *known]
        return [
            (f"{at + 1:>3}  ", paint.dim),
            (fitted(name, NAME, paint.ascii), paint.selected if chosen else paint.base),
            ("".join(number.rjust(CELL) for number in numbers), paint.number),
            ("  ", paint.base),
            (self._course(frame, watch, _room(width)), paint.model),
        ]

    def _course(self, frame: Frame, watch: Watch, wide: int) -> str:
        if frame.cursor is None:
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


def _room(width: int) -> int:
    """Cells for the course; none where it would say nothing."""
    wide = width - 6 - NAME - 4 * CELL - 2
    return wide if wide >= 10 else 0
