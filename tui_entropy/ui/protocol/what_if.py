"""The preview of an earlier step, with the knobs that are turned while a person looks at it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import to_builtins

from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, Value
from tui_entropy.records.probes.panels import steps_of
from tui_entropy.records.probes.step import STEP
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.ui.protocol.host import EngineHost

if TYPE_CHECKING:
    from tui_entropy.ui.views.frame import Frame


class WhatIf:
    """Asks for it, one question at a time; the newest is asked once the last is answered."""

    def __init__(self, app: EngineHost) -> None:
        self._app = app
        self._pending: AskProbe | None = None
        """What is not answered yet."""
        self._known: tuple[AskProbe, Step | None] | None = None
        """The last question, and what came of it: None where it was refused."""
        self._usual: Knobs | None = None
        """As they were before they were turned while looking back; None while nothing is supposed."""

    def suppose(self, knobs: Knobs) -> None:
        """Knobs are about to be turned, from these. It means something while writing rests and the cursor is on what
        is written."""
        frame = self._app.frame
        if self._usual is None and frame.log.state == "paused" and not frame.following:
            self._usual = knobs

    def with_preview(self, frame: Frame) -> Frame:
        """The frame with the answer to what it asks, where it asks and there is one."""
        if frame.following or frame.log.state != "paused":
            self._usual = None
        known, question = self._known, self._question(frame)
        return replace(frame, what_if=known[1] if known and known[0] == question else None)

    def _question(self, frame: Frame) -> AskProbe | None:
        at = frame.cursor
        if self._usual is None or at is None or at >= len(frame.log.steps):
            return None
        if frame.knobs in (self._usual, frame.log.knobs_at(at)):
            return None
        if STEP not in [probe.name for probe in frame.log.probes]:
            return None
        position = frame.log.steps[at].position
        return AskProbe(STEP, frame.log.run_number, position, values_of(frame.knobs), record=False)

    def ask(self) -> None:
        question = self._question(self._app.frame)
        if question and self._pending is None and (self._known is None or self._known[0] != question):
            self._pending = question
            self._app.tell(question)

    def on_preview(self, answer: ProbeAnswer | None) -> None:
        """The answer to what was asked; None where something was refused, which is not asked again."""
        asked, self._pending = self._pending, None
        if asked and (answer is None or (asked.run, asked.position) == (answer.run, answer.position)):
            self._known = asked, next(iter(steps_of(answer.panels if answer else ())), None)


def values_of(knobs: Knobs) -> dict[str, Value]:
    """Of the options of the probe."""
    values: dict[str, Value] = to_builtins(knobs, builtin_types=())
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
