"""Lanes: a shadow, a twin and a fan, what they differ in, and what a vector does with the text before it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace as changed

from tui_entropy.records.commands import Branch, SetShadow, Twin
from tui_entropy.records.events import Event, Refused, SampledContinuations
from tui_entropy.records.settings import Lane
from tui_entropy.ui.keys.lane_choices import NO_VECTORS, PROMPT, SYSTEM, Choice, choices
from tui_entropy.ui.pages.continuations import in_order
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.protocol.prompt import Prompt, Purpose

HEATS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0)
DRAWS = (2, 4, 8, 16, 32, 64)
LENGTHS = (4, 8, 16, 32, 64, 128)


class LaneActions(Host):
    """The part of the app that knows lanes. The app has the rest of what is named here."""

    @property
    def here(self) -> int:
        """The step under the cursor, or where the end is followed the one that comes next."""
        frame = self.frame
        return len(frame.log.steps) if frame.following or frame.cursor is None else frame.cursor

    # --- Which lane ------------------------------------------------------------------------------------------

    @property
    def choice(self) -> Choice:
        """The one that is chosen on the page of lanes."""
        found = choices(self.frame)
        return found[min(self.frame.row, len(found) - 1)]

    def _lane(self) -> Lane | None:
        """What a shadow or a twin is to be: the chosen row where the page is open, else the one chosen last, as
        things are set now; at first one without vectors. None where nothing would differ."""
        if self.place == "lanes":
            return None if self.choice.same else self.choice.lane
        name = self.frame.lane.name if self.frame.lane else NO_VECTORS
        found = next((choice for choice in choices(self.frame) if choice.name == name), None)
        return self.frame.lane if found is None else None if found.same else found.lane

    def _choose_first(self, what: str) -> None:
        if self.place != "lanes":
            self.action_open("lanes")
            self.show(row=next(n for n, choice in enumerate(choices(self.frame)) if not choice.same))
        self.refuse(f"choose what {what} differs in: a row without a prompt asks for it with enter")

    async def action_lane(self) -> None:
        """The chosen row as the shadow; none where it is that already."""
        choice, shadow = self.choice, self.frame.log.run.shadow
        if choice.lane is None:
            await self.action_type_lane()
        elif shadow is not None and shadow.name == choice.lane.name:
            self._no_shadow()
        elif choice.same:
            self.refuse("this lane would be the text that is there: nothing in it differs from what is set now")
        else:
            self._shadow(choice.lane)

    async def action_type_lane(self) -> None:
        began, choice = self.frame.log.started, self.choice
        if choice.name not in (SYSTEM, PROMPT):
            self.refuse("there is nothing to type for this lane: enter runs it")
        elif began is None:
            self.refuse("there is no text yet that another prompt could be given to: i asks for one")
        else:
            lane = choice.lane
            given = Prompt(lane.prompt or "", lane.system, began.chat) if lane else Prompt(
                began.prompt, began.system, began.chat
            )  # fmt: skip
            await self.open_box(Purpose.LANE, given, first="system" if choice.name == SYSTEM else "text")

    def take_lane(self, typed: Prompt) -> bool:
        """A lane with the prompt that was typed, as the shadow; whether it differs."""
        began = self.frame.log.started
        if began is None or (typed.prompt, typed.system) == (began.prompt, began.system):
            self.refuse("this is the prompt that the text has: change it, and the shadow differs")
            return False
        name = SYSTEM if typed.prompt == began.prompt else PROMPT
        lane = Lane(name, prompt=typed.prompt, system=typed.system)
        others = tuple(other for other in self.frame.typed_lanes if other.name != name)
        self.show(typed_lanes=(*others, lane))
        self._shadow(lane)
        return True

    def action_heat(self, by: int) -> None:
        """The temperature of the lane that differs in it."""
        self.show(heat=_rung(HEATS, self.frame.heat, by))

    # --- Shadow and twin -------------------------------------------------------------------------------------

    def action_shadow(self) -> None:
        if self.frame.log.run.shadow is not None:
            self._no_shadow()
        elif lane := self._lane():
            self._shadow(lane)
        else:
            self._choose_first("the shadow")

    def _shadow(self, lane: Lane) -> None:
        self.show(lane=lane)
        self.tell(SetShadow(lane))
        self.say(f"shadow from the next token on: {lane.name}; V shows what it thinks, S takes it away")

    def _no_shadow(self) -> None:
        self.tell(SetShadow(None))
        self.say("no shadow from the next token on")

    def action_twin(self) -> None:
        if self.frame.log.started is None:
            self.refuse("there is no text yet that a twin could be written beside: i asks for a prompt")
        elif lane := self._lane():
            self.show(lane=lane)
            self.tell(Twin(self.frame.log.run_number, self.here, lane))
            self.action_close_page()
            self.say(
                f"twin from step {self.here + 1} on: {lane.name}, with the same luck; tab goes to the other lane"
            )
        else:
            self._choose_first("the twin")

    # --- Fan -------------------------------------------------------------------------------------------------

    def action_fan(self) -> None:
        log = self.frame.log
        if self.place == "fan":
            self.action_close_page()
            return
        if log.started is None:
            self.refuse("there is no text yet that could go on: i asks for a prompt")
            return
        self.show(fan=changed(self.frame.fan, run=log.run_number, step=self.here), row=0)
        if log.fan is None or (log.fan.run, log.fan.index) != (log.run_number, self.here):
            self.action_ask_fan()
        self.action_open("fan")

    def action_ask_fan(self) -> None:
        self.show(awaited=self.frame.fan)
        self.tell(self.frame.fan)

    def action_draws(self, by: int) -> None:
        self.show(fan=changed(self.frame.fan, n=_rung(DRAWS, self.frame.fan.n, by)))

    def action_lengths(self, by: int) -> None:
        self.show(fan=changed(self.frame.fan, tokens=_rung(LENGTHS, self.frame.fan.tokens, by)))

    def action_same_text(self) -> None:
        other = "exact" if self.frame.fan.same == "normalised" else "normalised"
        self.show(fan=changed(self.frame.fan, same=other))
        self.action_ask_fan()

    def action_take_fan(self) -> None:
        fan = self.frame.log.fan
        if fan is None or not fan.rows:
            self.refuse("there is no continuation yet that could be taken")
            return
        lines = in_order(fan)
        row = lines[min(self.frame.row, len(lines) - 1)]
        self.tell(Branch(fan.run, fan.index, token_ids=row.token_ids, pause=self.frame.log.state == "paused"))
        self.action_close_page()

    def heed_lanes(self, event: Event) -> None:
        """An answer, or that there will be none."""
        if isinstance(event, SampledContinuations | Refused):
            self.show(awaited=None)

    # --- What a vector does with the text before it ----------------------------------------------------------

    def action_policy(self) -> None:
        rebuild = not self.frame.rebuild
        self.show(rebuild=rebuild)
        self.say(REBUILD if rebuild else KEEP)


def _rung(rungs: tuple[Any, ...], now: Any, by: int) -> Any:
    """The next of them up or down; the last one stays."""
    beyond = [rung for rung in rungs if (rung > now if by > 0 else rung < now)]
    return now if not beyond else beyond[0] if by > 0 else beyond[-1]


KEEP = "the next change of a vector acts from there on: keys and values of the text before stay as they are"
REBUILD = "the next change of a vector has the whole text before read again under it"
