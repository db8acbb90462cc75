"""The inspector on a recording: same views, no engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textual.actions import parse

from tui_entropy.records.commands import Command
from tui_entropy.records.model import ModelSpec
from tui_entropy.trace.playback import Playback
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.drawing.glyphs import fitted
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.views.view import LIGHT

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from textual.driver import Driver

NEED_AN_ENGINE = {
    "again", "stop", "restart", "prompt", "turn", "turn_chosen", "type", "take_typed", "reset_knob", "move_stage",
    "adaptive", "vector", "strength", "no_vectors", "name", "star", "delete", "edit", "edit_prompt", "lane",
    "type_lane", "shadow", "twin", "fan", "ask_fan", "same_text", "take_fan", "policy",
    "take", "ban", "ban_on", "force", "until", "write_some", "add_row", "edit_row", "delete_row", "switch_row",
}  # fmt: skip
RECORDING = "this is a recording: nothing in it can be changed; `tui-entropy run` writes with a model"
NAME = 28
"""Cells of the file's name."""


class ReplayApp(InspectorApp):
    """Shows what a Playback has come to. The cursor scrubs through what is shown; it never stops the playing."""

    def __init__(
        self,
        playback: Playback,
        *,
        paint: Paint | None = None,
        keymap: Mapping[str, str] | None = None,
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(ModelSpec(""), paint=paint, engine_command=None, keymap=keymap, driver_class=driver_class)
        self.playback = playback
        self._next: TimerHandle | None = None

    # --- As time goes by -------------------------------------------------------------------------------------

    def begin_engine(self) -> None:
        """There is none; the playback begins."""
        card = self.playback.log.card
        self.come_to(layer=card.n_layers if card else 1)
        self._await()

    def come_to(self, **changes: Any) -> None:
        """Show the playback as it is now."""
        log = self.playback.log
        self.show(log=log, knobs=log.knobs, vectors=log.vectors, played=self._told(), place=self.place, **changes)

    def _await(self) -> None:
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
        self._await()

    def _told(self) -> str:
        playback = self.playback
        runs = playback.trace.runs
        which = f" run {playback.run} of {len(runs)}" if len(runs) > 1 else ""
        name = playback.trace.path.name
        at = f"{len(playback.log.steps)}/{playback.length}"
        return f"replay{which} {at} x{playback.speed:g} {fitted(name, min(len(name), NAME))}"

    def on_unmount(self) -> None:
        """Beside what InspectorApp does then."""
        if self._next is not None:
            self._next.cancel()

    # --- Keys ------------------------------------------------------------------------------------------------

    @property
    def place(self) -> str:
        return super().place or ("replay" if len(self.screen_stack) == 1 else "")

    async def run_action(self, action: Any, *places: Any, **more: Any) -> bool:
        """Keys, palette and clicks all come here."""
        _, name, arguments = parse(action) if isinstance(action, str) else action
        if name in NEED_AN_ENGINE and self.check_action(name, arguments):
            self.refuse(RECORDING)
            return True
        return await super().run_action(action, *places, **more)

    def set_vector(self, at: int, **changes: Any) -> None:
        """By the mouse."""
        self.refuse(RECORDING)

    def tell(self, command: Command) -> None:
        """Nobody listens."""

    def _welcome(self) -> None:
        """The hints say it."""

    def action_pause(self) -> None:
        """At the end, play again: from the cursor where it was moved away, else from the beginning."""
        playback = self.playback
        if playback.at_end:
            following = self.frame.following or self.frame.cursor is None
            playback.seek(0 if following else (self.frame.cursor or 0) + 1)
            self.come_to(following=True)
        elif playback.playing:
            playback.pause()
        else:
            playback.go_on()
        self.come_to()
        self._await()

    def action_advance(self) -> None:
        self.playback.step()
        self.come_to()
        self._await()

    def action_faster(self, by: int) -> None:
        self.playback.faster(by)
        self.come_to()
        self._await()

    def action_run(self, by: int) -> None:
        playback = self.playback
        runs = playback.trace.runs
        at = runs.index(playback.run) + by
        if not 0 <= at < len(runs):
            self.refuse(f"there is no run {'after' if by > 0 else 'before'} this one: the recording has {len(runs)}")
            return
        self.go_to_run(runs[at])

    def go_to_run(self, run: int) -> None:
        self.playback.choose(run, None if self.playback.at_end else 0)
        self.come_to(following=True)
        self._await()
