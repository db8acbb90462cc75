"""Visits: passes that are asked for once more where the step under the cursor lacks what only its own pass tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.probes.visit import VISIT
from tui_entropy.ui.protocol.host import EngineHost
from tui_entropy.ui.protocol.what_if import values_of

if TYPE_CHECKING:
    from tui_entropy.ui.views.frame import Frame

AT_REST = ("paused", "ended")


class Visits:
    """One question at a time, about the token where the cursor rests by then."""

    def __init__(self, app: EngineHost, in_control: Callable[[], bool]) -> None:
        self._app = app
        self._in_control = in_control
        self._pending: AskProbe | None = None
        self._refused: set[tuple[int, int]] = set()
        """(run, position) of tokens that could not be visited."""

    def ask(self) -> None:
        """Visit the token under the cursor, where nothing is awaited."""
        question = self._question(self._app.frame)
        if question and self._pending is None:
            self._pending = question
            self._app.tell(question)

    def _question(self, frame: Frame) -> AskProbe | None:
        log, step = frame.log, frame.step
        if step is None or frame.held_up or step.is_visited or log.state not in AT_REST or not self._in_control():
            return None
        if (log.run_number, step.position) in self._refused or VISIT not in [probe.name for probe in log.probes]:
            return None
        return AskProbe(VISIT, log.run_number, step.position, values_of(log.knobs_at(step.index)))

    def on_answer(self, answer: ProbeAnswer | None) -> None:
        """The answer to what was asked; None where something was refused, which is not asked again."""
        asked, self._pending = self._pending, None
        if asked and (answer is None or not answer.panels):
            self._refused.add((asked.run, asked.position))

    def forget(self) -> None:
        """Another engine, another text: nothing is awaited of it."""
        self._pending, self._refused = None, set()
