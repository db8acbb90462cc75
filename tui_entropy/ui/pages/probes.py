"""Questions to the model about the token under the cursor, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from textual.strip import Strip

from tui_entropy.records.probes.ask import ProbeAnswer, ProbeInfo
from tui_entropy.records.probes.options import options_text
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.keys.needs import acts
from tui_entropy.ui.keys.probe_choice import (
    ProbesState,
    answer_here,
    answered_steps,
    answered_values,
    chosen_probe,
    has_answered,
    offered,
    position_of,
    question,
    shown_values,
    written_answer,
)
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.panels import Canvas, drawn
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import token_at

NAME = 18
FAR = 2
"""Rows further than which a move scrolls the answer instead of choosing another probe."""


class Probes(View):
    """A row for each probe, with a dot where it has answered about this token; the options of the chosen one and its
    answer below."""

    PACE: ClassVar[float] = HEAVY

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._n_hidden = 0
        """Rows of the answer that the window does not show."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, position = frame.paint, position_of(frame)
        where: list[str | list[Part]] = []
        if position is not None:
            token = token_at(frame.log, position, paint.ascii)
            where = [f"of {token}" if token != "?" else "of the token that comes next", f"position {position}"]
        head = [self.heading(frame, "probes", where, width)]
        probe = chosen_probe(frame)
        if probe is None:
            return [*head, *paint.hint(NONE, width)][:height]
        # Whoever scrolls reads the answer: the other probes make room for it.
        listed = [probe] if frame.of(ProbesState).scroll else offered(frame)
        head += [paint.row(_row(frame, each, each == probe, width), width) for each in listed]
        head += [paint.row(line, width) for line in _options(frame, probe)]
        rows = [paint.row(row, width) for row in _answer(frame, probe, width)]
        room = max(height - len(head) - 1, 1)
        self._n_hidden = max(len(rows) - room, 0)
        first = min(frame.of(ProbesState).scroll, self._n_hidden)
        shown = f"rows {first + 1} to {first + room} of {len(rows)}: pgup pgdn" if self._n_hidden else ""
        return [*head, paint.row([(shown, paint.dim)], width), *rows[first : first + room]][:height]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        if abs(by) > FAR:
            scroll = min(frame.of(ProbesState).scroll, self._n_hidden) + by
            return frame.put(ProbesState, scroll=min(max(scroll, 0), self._n_hidden))
        last = max(len(offered(frame)) - 1, 0)
        return {"row": min(max(min(frame.row, last) + by, 0), last), **frame.put(ProbesState, scroll=0)}


def _row(frame: Frame, probe: ProbeInfo, chosen: bool, width: int) -> list[Part]:
    paint = frame.paint
    trust = frame.trust(probe.trust)
    answered = has_answered(frame, probe)
    name = fitted(visible(probe.name, paint.ascii, True), NAME, paint.ascii)
    return [
        (paint.drawn if chosen else " ", paint.accent),
        (f" {name}", paint.selected if chosen else paint.base),
        (paint.dot_on if answered else " ", paint.number),
        paint.trusted[trust.level] if trust else ("  ", paint.dim),
        (f"  {visible(probe.about, paint.ascii, True)}", paint.base if chosen else paint.dim),
    ]


def _options(frame: Frame, probe: ProbeInfo) -> Iterator[list[Part]]:
    """The options of the chosen probe as they are set, or where none can be, as an answer was asked with; and what it
    needs of the model."""
    paint, answer = frame.paint, answer_here(frame)
    is_recorded = answer is not None and not acts(frame, "probes.ask")
    values = answered_values(probe, answer) if answer and is_recorded else shown_values(frame, probe)
    names = ", ".join(option.name for option in probe.options)
    text = options_text(values) or f"as they are by default{f': {names}' if names else ''}"
    yield [
        ("   asked with " if is_recorded else "   options ", paint.dim),
        (visible(text, paint.ascii, True), paint.number),
    ]
    yield [("   needs ", paint.dim), (visible(probe.needs, paint.ascii, True), paint.dim)]


def _answer(frame: Frame, probe: ProbeInfo, width: int) -> Iterator[list[Part]]:
    paint, answer, state = frame.paint, answer_here(frame), frame.of(ProbesState)
    if state.pending is not None:
        yield _waiting(frame)
    elif (answer is None or answer == written_answer(frame, probe)) and acts(frame, "probes.ask"):
        yield [(f"enter asks {probe.name} about this token", paint.dim)]
    elif answer is None:
        yield [("nothing was asked about this token", paint.dim)]
    if answer is None:
        if steps := answered_steps(frame):
            yield [(f"there is an answer at token {', '.join(map(str, steps))}", paint.dim)]
        return
    if answer.unavailable is not None:
        yield [("no answer: ", paint.warning), (visible(answer.unavailable, paint.ascii, True), paint.base)]
        return
    canvas = Canvas(paint, width, frame.bits, lambda position: token_at(frame.log, position, paint.ascii))
    yield from drawn(answer.panels, canvas)
    if answer != written_answer(frame, probe):
        yield _about(frame, probe, answer)


def _waiting(frame: Frame) -> list[Part]:
    paint, awaited, progress = frame.paint, frame.of(ProbesState).pending, frame.log.probe_progress
    assert awaited is not None
    share = f" {100 * progress.done / progress.total:.0f} %" if progress and progress.total > 0 else ""
    stop = ", x gives up" if acts(frame, "probes.cancel") else ""
    return [(f"waiting for {visible(awaited.name, paint.ascii, True)}{share}{stop}", paint.warning)]


def _about(frame: Frame, probe: ProbeInfo, answer: ProbeAnswer) -> list[Part]:
    """How long it took, and under which options, where those are not the ones that are set now."""
    asked = question(frame) if acts(frame, "probes.ask") else None
    other = asked is not None and asked.options != answer.options
    under = f", asked with {options_text(answered_values(probe, answer)) or 'usual options'}" if other else ""
    return [(visible(f"took {answer.seconds:.2f} s{under}", frame.paint.ascii, True), frame.paint.dim)]


NONE = "This engine, or this recording, has no probes."
