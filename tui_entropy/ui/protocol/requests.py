"""Requests: what was asked of the engine, from which a new one is told everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from tui_entropy.records.commands import Load, Write
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint

if TYPE_CHECKING:
    from tui_entropy.records.events import Standing
    from tui_entropy.ui.views.frame import Frame


class Requests:
    """All that was asked for at the start, and the newest text that was."""

    def __init__(
        self, load: Load, opening: Write | None, breakpoints: Sequence[Breakpoint], watches: Sequence[str]
    ) -> None:
        self.load = load
        self.opening = opening
        """What waits for the model; None for nothing."""
        self.wrote = opening
        """What was asked for last."""
        self._stops = tuple(breakpoints), tuple(watches)
        """What is set once the model is up."""
        self._was_up = False
        """A model was up, so that there is a record of what became of a recording."""

    def ask(self, wanted: Write, is_up: bool) -> None:
        """A text, from a model that is up or once it is."""
        if is_up:
            self.opening, self.wrote = None, wanted
        else:
            self.opening = wanted

    def deliver(self, knobs: Knobs) -> None:
        """The model is up, and has what waited for it."""
        self._was_up = True
        if self.opening:
            self.wrote, self.opening = changed(self.opening, knobs=knobs), None

    def adopt(self, standing: Standing, trace: str | None) -> None:
        """Take over the requests of an engine that ran before this screen."""
        self.load = changed(self.load, model=standing.model or self.load.model, keep=standing.keep, trace=trace)

    def adopt_text(self, wrote: Write) -> None:
        """Take over a text that another screen asked for."""
        self.wrote = wrote

    def of_new_engine(self, frame: Frame) -> Load:
        """All that was asked for at the start, or is set since. So nothing of it is lost with this screen."""
        log, (breakpoints, watches) = frame.log, self._stops
        if (reopen := self.load.reopen) and not self.opening:  # a recording has all of it
            path = log.trace if self._was_up and log.trace else reopen.path
            limit = None if self._was_up else reopen.max_tokens
            return changed(self.load, reopen=changed(reopen, path=path, max_tokens=limit))
        known = frame.vectors
        files = {vector.source for vector in known}
        return changed(
            self.load,
            reopen=None,
            vectors=(*known, *(vector for vector in self.load.vectors if vector.source not in files)),
            watches=tuple(watch.text for watch in log.run.watches) or watches,
            breakpoints=log.breakpoints or breakpoints,
            write=self.opening and changed(self.opening, knobs=frame.knobs),
        )
