"""Strings that are followed: how probable each is where the cursor stands, and along the text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from textual.strip import Strip

from tui_entropy.records.events import probability_of
from tui_entropy.records.settings import Watch
from tui_entropy.records.step import Watched
from tui_entropy.state.step_store import StepStore
from tui_entropy.ui.drawing.glyphs import fitted, visible_bytes
from tui_entropy.ui.drawing.paint import Part, figure
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.list_view import Rows
from tui_entropy.ui.views.view import HEAVY

NAME, CELL = 16, 10
TOKEN = 14
"""Cells of a first token, where a text has more of them."""
ABOUT = (
    "to first, to top: logit difference to the first of these texts, and to the most probable token; 0.7 is twice as "
    "likely. Of a text with several tokens the first one is followed. ? is unknown: not followed at that step."
)


class Watches(Rows):
    """The numbers of watched tokens. One that was not followed yet at a step is unknown there."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._steps: StepStore | None = None
        self._seen: dict[int, tuple[Watched, ...]] = {}
        """Step -> what was followed there, for steps that were looked at."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint = frame.paint
        heading = self.heading(frame, "watches", [*frame.where, "model, of the first token of each text"], width)
        wide, several = _room(frame, width), _several(frame)
        course = f"  {paint.root}probability, newest {wide}"[: wide + 2] if wide else ""
        names = f"{'':6}{'text':{NAME}}{'first token'[:several]:{several}}"
        names += "".join(name.rjust(CELL) for name in ("prob %", "rank", "to first", "to top")) + course
        rows = [paint.row([(names, paint.dim)], width), *self.listed(frame, width, height)]
        return [heading, *rows, Strip([]), *paint.hint(ABOUT, width)][:height]

    def items(self, frame: Frame) -> int:
        return len(frame.log.run.watches)

    def item(self, frame: Frame, at: int, width: int, chosen: bool) -> list[Part]:
        paint, step, watches = frame.paint, frame.step, frame.log.run.watches
        watch, seen = watches[at], {one.token_id: one for one in step.watched} if step else {}
        one, first = seen.get(watch.token_id), seen.get(watches[0].token_id)
        name = visible_bytes(watch.text.encode(), paint.ascii)
        token = f"{visible_bytes(watch.token_bytes, paint.ascii)} 1/{watch.n_tokens}" if watch.n_tokens > 1 else ""
        numbers = ["?"] * 4
        if one is not None and step is not None:
            top = step.candidates[0].logprob if step.candidates else math.nan
            apart = [one.logit - first.logit if first else math.nan, one.logprob - top]
            known = ["?" if math.isnan(value) else f"{value:+.2f}" for value in apart]
            numbers = [figure(100 * probability_of(one.logprob)), str(one.rank), *known]
        return [
            (f"{at + 1:>3}  ", paint.dim),
            (fitted(name, NAME, paint.ascii), paint.selected if chosen else paint.base),
            (fitted(token, _several(frame), paint.ascii), paint.dim),
            ("".join(number.rjust(CELL) for number in numbers), paint.number),
            ("  ", paint.base),
            *self._course(frame, watch, _room(frame, width)),
        ]

    def _course(self, frame: Frame, watch: Watch, wide: int) -> Iterator[Part]:
        if frame.cursor is None:
            return
        paint, steps = frame.paint, frame.log.steps
        if self._steps is not steps:
            self._steps, self._seen = steps, {}
        for index in range(max(frame.cursor + 1 - wide, 0), frame.cursor + 1):
            if index < len(steps) and index not in self._seen:
                self._seen[index] = steps[index].watched
            watched = self._seen[index] if index < len(steps) else frame.step.watched if frame.step else ()
            known = next((one.logprob for one in watched if one.token_id == watch.token_id), None)
            yield paint.spark(known and probability_of(known / 2)), paint.dim if known is None else paint.model


def _several(frame: Frame) -> int:
    """Cells for first tokens, none where each text has but one."""
    return TOKEN if any(watch.n_tokens > 1 for watch in frame.log.run.watches) else 0


def _room(frame: Frame, width: int) -> int:
    """Cells for the course; none where it would say nothing."""
    wide = width - 6 - NAME - _several(frame) - 4 * CELL - 2
    return wide if wide >= 10 else 0
