"""The inspector on a recording: same views, no engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Advance, Continue, Go, Pause
from tui_entropy.trace.library import reopened_spec
from tui_entropy.trace.playback import Playback
from tui_entropy.ui.app.reopening import is_recorded_now
from tui_entropy.ui.app.viewer import Viewer
from tui_entropy.ui.drawing.glyphs import fitted
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.needs import unable
from tui_entropy.ui.keys.session_choice import Session
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.views.view import LIGHT

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from textual.driver import Driver

RECORDING = "this is a recording: nothing in it can be changed; {reopen} goes on with it"
NAME = 16
"""Cells of the file's name."""


class ReplayApp(Viewer):
    """Shows what a Playback has come to. The cursor scrubs through what is shown; it never stops the playing."""

    def __init__(
        self,
        playback: Playback,
        *,
        paint: Paint | None = None,
        keymap: Mapping[str, str] | None = None,
        driver_class: type[Driver] | None = None,
        film: bool = False,
        demo: bool = False,
    ) -> None:
        """film: it is looked at and not sat at: nothing says that it is a recording, and no keys are offered.
        demo: as Frame has it."""
        super().__init__(paint, keymap, driver_class)
        self.frame = replace(self.frame, demo=demo)
        self.playback, self._film = playback, film
        self.repaints.timed = not film
        self._next: TimerHandle | None = None
        self.give(*self.parts())

    def parts(self) -> Iterable[Actions[Any]]:
        """The actions of keys: on any log, and for playing it."""
        return *super().parts(), PlayActions(self)

    @property
    def lacking(self) -> frozenset[str]:
        """Beside what only an engine has, what a recording cannot be told."""
        return super().lacking | unable(self.playback.capabilities)

    def lack(self, action: str) -> None:
        self.refuse(RECORDING)

    # --- As time goes by -------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.screen.set_class(self._film, "-film")
        self.show()
        card = self.playback.log.card
        self.frame = replace(self.frame, layer=card.n_layers if card else 1)
        self.come_to()
        self.schedule()

    def come_to(self, **changes: Any) -> None:
        """Show the playback as it is now."""
        log = self.playback.log
        played = "" if self._film else self._played_text()
        self.base.set_class(not self.playback.has_rows, "-no-rows")
        self.show(
            log=log,
            knobs=log.set_knobs,
            vectors=log.set_vectors,
            played=played,
            place=self.place,
            **changes,
        )

    def schedule(self) -> None:
        """Come back when something is due, at most 20 times a second. Nothing due, no timer."""
        if self._next is not None:
            self._next.cancel()
        wait = self.playback.wait
        self._next = None if wait is None else self.clock.call_later(max(wait, LIGHT), self._go_on)

    def _go_on(self) -> None:
        refusal = self.playback.log.refusal
        if self.playback.advance():
            self.come_to()
        if self.playback.log.refusal != refusal:
            self.say(self.playback.log.refusal)
        self.schedule()

    def _played_text(self) -> str:
        playback = self.playback
        runs = playback.trace.runs
        which = f" run {playback.run} of {len(runs)}" if len(runs) > 1 else ""
        name = playback.trace.path.name
        at = f"{len(playback.log.steps)}/{playback.length}"
        return f"replay{which} {at} x{playback.speed:g} {fitted(name, min(len(name), NAME))}"

    def on_unmount(self) -> None:
        """Beside what Viewer does then."""
        if self._next is not None:
            self._next.cancel()

    @property
    def whereabouts(self) -> str:
        return str(self.playback.trace.path.absolute())

    @property
    def place(self) -> str:
        return super().place or ("replay" if len(self.screen_stack) == 1 else "")

    def go_to_run(self, run: int) -> None:
        self.playback.handle(Go(run))
        self.come_to(following=True)
        self.schedule()


class PlayActions(Actions[ReplayApp]):
    """The actions that play a recording: pause, step, speed, run."""

    def action_pause(self) -> None:
        """At the end, play again: from the cursor where it was moved away, else from the beginning."""
        playback, frame = self.app.playback, self.app.frame
        if playback.at_end:
            following = frame.following or frame.cursor is None
            playback.seek(0 if following else (frame.cursor or 0) + 1)
            self.app.come_to(following=True)
        else:
            playback.handle(Pause() if playback.playing else Continue())
        self._played()

    def action_advance(self) -> None:
        self.app.playback.handle(Advance())
        self._played()

    def action_faster(self, by: int) -> None:
        self.app.playback.faster(by)
        self._played()

    def _played(self) -> None:
        self.app.come_to()
        self.app.schedule()

    def action_run(self, by: int) -> None:
        playback = self.app.playback
        runs = playback.trace.runs
        at = runs.index(playback.run) + by
        if 0 <= at < len(runs):
            self.app.go_to_run(runs[at])
        else:
            self.app.refuse(
                f"there is no run {'after' if by > 0 else 'before'} this one: the recording has {len(runs)}"
            )

    def action_reopen(self) -> None:
        """On the screen of an engine that goes on with it."""
        trace = self.app.playback.trace
        if engine := is_recorded_now(trace.path.absolute()):
            self.app.refuse(f"engine {engine} still records in this file: `tui-entropy attach {engine}` goes to it")
            return
        try:
            reopened_spec(trace.path, {})
        except UserError as mistake:
            self.app.refuse(str(mistake))
            return
        self.app.leave_for(Session(trace.path.absolute(), reopens=True, run=self.app.playback.run))

    def action_control(self) -> None:
        self.app.refuse("this screen is in control")

    def action_detach(self) -> None:
        self.app.refuse("there is no engine to come back to: {quit} quits")

    def action_quit(self) -> None:
        self.app.exit()
