"""Leaving an engine and coming back to it, and several screens on one engine: what that means for a screen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Follow, TakeControl, Write
from tui_entropy.records.events import (
    Event,
    KnobsChanged,
    Refused,
    SettingsPending,
    Standing,
    Started,
    Switched,
    VectorsChanged,
)
from tui_entropy.state.session_view import SessionView
from tui_entropy.transport.discovery import reattach_hint
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import EngineHost
from tui_entropy.ui.protocol.remark import Remark
from tui_entropy.ui.views.wording import counted

if TYPE_CHECKING:
    from tui_entropy.trace.reader import Trace


YES = ("y", "yes")
TAKE = "{control} takes control"
WATCHING = f"another screen is in control, this one watches: {TAKE}"
SETTINGS = (Started, KnobsChanged, VectorsChanged, SettingsPending, Refused)
"""Events after which a screen that only watches shows what is set, not what it asked for."""


class EngineLink(Actions[EngineHost]):
    """The link of this screen to its engine: how they stand to each other.

    attach: the socket of an engine that ran before this screen.
    forwarded: that engine may be on another machine, so that its record cannot be read from here.
    """

    def __init__(self, app: EngineHost, attach: Path | None, forwarded: bool) -> None:
        super().__init__(app)
        self.attach, self._forwarded = attach, forwarded
        self.standing: Standing | None = None
        """As the engine says; None while it has not."""
        self._record: Trace | None = None
        """What the engine records, opened."""
        self._at_hand: frozenset[int] = frozenset()
        """Runs whose steps may be in memory."""
        self.ending = False
        """Whether the engine ends with this screen."""
        self._lends = False
        """Whether the knobs are those of a text that an application asked for, and a person's will be back."""

    @property
    def in_control(self) -> bool:
        return self.standing is None or self.standing.in_control

    @property
    def watching(self) -> bool:
        """Whether another screen is in control."""
        return self.standing is not None and self.standing.screens > 0 and not self.standing.in_control

    @property
    def way_back(self) -> str:
        """The way back, for whoever left. Empty where there is nothing to come back to."""
        if self.ending or self.standing is None or not self._outlives:
            return ""
        return f"engine {self.standing.engine} stays: {reattach_hint(self.standing.engine, self.standing.keep)}"

    @property
    def last_words(self) -> str:
        """How to come back to an engine that stays; of one that does not, what it recorded and how that is seen
        again. Empty where there is neither."""
        log = self.app.frame.log
        if self.way_back or not log.trace or not log.runs:
            return self.way_back
        if self._forwarded:
            return f"recorded in {log.trace} on the engine's machine"
        from tui_entropy.trace.library import summary, typed_name

        recorded = summary(Path(log.trace))
        if not recorded.n_runs:
            return ""
        size = f"{counted(recorded.n_runs, 'run')}, {counted(recorded.n_tokens, 'token')}"
        return f"recorded {size}: `tui-entropy replay {typed_name(recorded.path)}` shows it again"

    @property
    def _outlives(self) -> bool:
        """Whether the engine is there when this screen is gone."""
        return self.standing is not None and (self.standing.keep > 0 or self.standing.screens > 1)

    def part(self) -> None:
        """From the engine that there was: another is started."""
        self.attach = self.standing = None

    def lose(self) -> None:
        """The engine is gone."""
        self.standing = None

    def close(self) -> None:
        """The screen is gone."""
        if self._record:
            self._record.close()

    # --- What the engine says --------------------------------------------------------------------------------

    def stand(self, now: Standing) -> None:
        """The first word of an engine, and news when screens come, go or take control."""
        before, self.standing = self.standing, now
        part = "in control" if now.in_control else "only watching"
        self.app.frame = replace(self.app.frame, link=f"{now.screens} screens, {part}" if now.screens > 1 else "")
        if before is None:
            if self.attach:
                self._come_back(now)
            if now.screens:
                self._say_of_control(WATCHING)
        elif before.screens and before.in_control != now.in_control:
            self._say_of_control(
                "this screen is in control now" if now.in_control else f"another screen took control: {TAKE}"
            )
            self._mirror()

    def _say_of_control(self, sentence: str) -> None:
        """For as long as the engine is there and nobody else took control."""
        in_control = self.in_control
        self.app.say(sentence, holds=lambda _: self.standing is not None and self.in_control == in_control)

    def _come_back(self, now: Standing) -> None:
        """To everything that happened meanwhile: from the record where it can be read, the rest from the engine."""
        log, seq = SessionView(), 0
        if record := self._open_record(now.trace):
            log, seq = record.latest()
        self.app.tell(Follow(seq))
        self.app.requests.adopt(now, log.trace)
        self.app.frame = replace(self.app.frame, log=log, layer=log.card.n_layers if log.card else 1)
        self._mirror()

    def on_event(self, event: Event) -> None:
        """Take in an event as one from an engine which others may command and which records."""
        if isinstance(event, Started | Switched):
            self._put_away()
        if not self.in_control and isinstance(event, SETTINGS):  # what is set is what somebody else set
            self._mirror()
        elif isinstance(event, Started) and event.request:
            self._show_what_is_set()
            if self.app.frame.log.proxied:
                return
            self._lends = True
            self.app.say("an application asked for this text: its knobs are set until it ends")
        elif self._lends and isinstance(event, SettingsPending) and self.app.frame.log.state == "ended":
            self._lends = False
            self._show_what_is_set()

    def _put_away(self) -> None:
        """Runs that were left give up their steps, where they can be read from the record again."""
        from tui_entropy.trace.lazy_steps import LazySteps

        log = self.app.frame.log
        shown = {view.started.run for view in (log.run, log.twin) if view}
        left = (self._at_hand - shown) & log.runs.keys()
        if left and (record := self._open_record(log.trace or (self.standing.trace if self.standing else ""))):
            for run in left:
                steps = LazySteps(record, run)
                if len(steps) >= len(log.runs[run].steps):  # it may not have been written down yet
                    log.read_steps(run, steps)
                    self._at_hand -= {run}
        self._at_hand |= shown

    def _open_record(self, path: str) -> Trace | None:
        """The engine's record, where it can be read from here."""
        from tui_entropy.trace.reader import Trace

        if self._record and str(self._record.path) != path:
            self._record = None
        if path and not self._forwarded and self._record is None:
            with suppress(UserError):
                self._record = Trace.open(Path(path))
        return self._record

    def _mirror(self) -> None:
        self._show_what_is_set()
        self.mirror_text()

    def _show_what_is_set(self) -> None:
        log = self.app.frame.log
        self.app.frame = replace(self.app.frame, knobs=log.set_knobs, vectors=log.set_vectors)

    def mirror_text(self) -> None:
        """What somebody else asked for, or was recorded, is what a person asks for again."""
        log = self.app.frame.log
        if began := log.started:
            knobs, read = log.set_knobs, began.n_given > 0
            ids = tuple(token.token_id for token in began.prompt_tokens) if began.request else ()
            wrote = Write(began.prompt, began.system, began.chat, began.max_tokens, knobs, read=read, token_ids=ids)
            self.app.requests.adopt_text(wrote)

    # --- What the keys do ------------------------------------------------------------------------------------

    async def action_quit(self) -> None:
        """The engine ends too, unless this screen only watches it."""
        first = self.standing is not None and not self.standing.screens  # not let in yet, and nobody else is there
        self.ending = self.in_control or first
        self.app.exit()

    def action_detach(self) -> None:
        if self.standing is None:
            self.app.refuse("there is no engine to come back to: {quit} quits")
        elif self._outlives:
            self.app.exit()
        else:
            self.app.refuse(
                "this engine ends with its last screen: start it with --keep 30m to leave it, {quit} quits"
            )

    def leave(self, go: Callable[[], None]) -> None:
        """For another session: as D does, and where the engine ends with this screen once a person agrees."""
        if self.standing is None or self._outlives or not self.in_control:
            go()
            return
        self.app.ask(
            "this engine ends with its last screen; go all the same? y goes, esc stays",
            lambda _: go(),
            check=lambda typed: Remark() if typed.strip().lower() in YES else Remark("y goes, esc stays", 0),
        )

    def action_control(self) -> None:
        if self.in_control:
            self.app.refuse("this screen is in control")
        else:
            self.app.tell(TakeControl())
