"""Leaving an engine and coming back to it, and several screens on one engine: what that means for a screen."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Follow, TakeControl, Write
from tui_entropy.records.events import Event, KnobsChanged, Refused, Standing, Started, Switched, VectorsChanged
from tui_entropy.state.session_view import SessionView
from tui_entropy.transport.discovery import how_back
from tui_entropy.ui.protocol.host import Host

if TYPE_CHECKING:
    from tui_entropy.trace.reader import Trace


TAKE = "ctrl+g takes control"
SETTINGS = (Started, KnobsChanged, VectorsChanged, Refused)
"""Events after which a screen that only watches shows what is set, not what it asked for."""


class AttachedActions(Host):
    """The part of the app that knows how it and the engine stand. The app has the rest of what is named here."""

    if TYPE_CHECKING:
        _been_ready: bool

    attach: Path | None = None
    """The socket of an engine that ran before this screen."""
    forwarded = False
    """That engine may be on another machine, so that its record cannot be read from here."""
    standing: Standing | None = None
    """As the engine says; None while it has not."""
    _record: Trace | None = None
    """What the engine records, opened."""
    _at_hand: frozenset[int] = frozenset()
    """Runs whose steps may be in memory."""
    ending = False
    """Whether the engine ends with this screen."""

    @property
    def in_control(self) -> bool:
        return self.standing is None or self.standing.in_control

    @property
    def parting(self) -> str:
        """What to tell whoever left: how to come back. Empty where there is nothing to come back to."""
        if self.ending or self.standing is None or not self._outlives:
            return ""
        return f"engine {self.standing.engine} stays: {how_back(self.standing.engine, self.standing.keep)}"

    @property
    def _outlives(self) -> bool:
        """Whether the engine is there when this screen is gone."""
        return self.standing is not None and (self.standing.keep > 0 or self.standing.screens > 1)

    # --- What the engine says --------------------------------------------------------------------------------

    def stand(self, now: Standing) -> None:
        """The first word of an engine, and news when screens come, go or take control."""
        before, self.standing = self.standing, now
        part = "in control" if now.in_control else "only watching"
        self.frame = replace(self.frame, link=f"{now.screens} screens, {part}" if now.screens > 1 else "")
        if before is None:
            if self.attach:
                self._come_back(now)
            if now.screens:
                self.say(f"another screen is in control, this one watches: {TAKE}")
        elif before.screens and before.in_control != now.in_control:
            self.say("this screen is in control now" if now.in_control else f"another screen took control: {TAKE}")
            self._mirror()

    def _come_back(self, now: Standing) -> None:
        """To everything that happened meanwhile: from the record where it can be read, the rest from the engine."""
        log, seq = SessionView(), 0
        if record := self._recorded(now.trace):
            log, seq = record.latest()
        self.tell(Follow(seq))
        self.load = changed(self.load, model=now.model or self.load.model, keep=now.keep, trace=log.trace)
        self.frame = replace(self.frame, log=log, layer=log.card.n_layers if log.card else 1)
        self._been_ready = log.card is not None
        self._mirror()

    def heed(self, event: Event) -> None:
        """What it means to a screen that it comes from an engine which others may command and which records."""
        if isinstance(event, Started | Switched):
            self._put_away()
        if not self.in_control and isinstance(event, SETTINGS):  # what is set is what somebody else set
            self._mirror()

    def _put_away(self) -> None:
        """Runs that were left give up their steps, where they can be read from the record again."""
        from tui_entropy.trace.lazy_steps import LazySteps

        log = self.frame.log
        shown = {told.started.run for told in (log.run, log.twin) if told}
        left = (self._at_hand - shown) & log.runs.keys()
        if left and (record := self._recorded(log.trace or (self.standing.trace if self.standing else ""))):
            for run in left:
                steps = LazySteps(record, run)
                if len(steps) >= len(log.runs[run].steps):  # it may not have been written down yet
                    log.read_steps(run, steps)
                    self._at_hand -= {run}
        self._at_hand |= shown

    def _recorded(self, path: str) -> Trace | None:
        """The engine's record, where it can be read from here."""
        from tui_entropy.trace.reader import Trace

        if self._record and str(self._record.path) != path:
            self._record = None
        if path and not self.forwarded and self._record is None:
            with suppress(UserError):
                self._record = Trace.open(Path(path))
        return self._record

    def _mirror(self) -> None:
        log = self.frame.log
        self.frame = replace(self.frame, knobs=log.knobs, vectors=log.vectors)
        if began := log.started:
            self.wrote = Write(began.prompt, began.system, began.chat, began.max_tokens, log.knobs)

    # --- What the keys do ------------------------------------------------------------------------------------

    async def action_quit(self) -> None:
        """The engine ends too, unless this screen only watches it."""
        first = self.standing is not None and not self.standing.screens  # not let in yet, and nobody else is there
        self.ending = self.in_control or first
        self.exit()

    def action_detach(self) -> None:
        if self.standing is None:
            self.refuse("there is no engine to come back to: q quits")
        elif self._outlives:
            self.exit()
        else:
            self.refuse("this engine ends with its last screen: start it with --keep 30m to leave it, q quits")

    def action_control(self) -> None:
        if self.in_control:
            self.refuse("this screen is in control")
        else:
            self.tell(TakeControl())
