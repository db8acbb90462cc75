"""Lanes: a shadow, a twin and a fan, and what they differ in."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace as changed

from tui_entropy.records.commands import Branch, SetShadow, Twin
from tui_entropy.records.events import Event, Ready, Refused, ShadowChanged
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.continuations import CONTINUATIONS, ContinuationOptions
from tui_entropy.records.settings import Lane
from tui_entropy.ui.actions.prompt import PromptActions
from tui_entropy.ui.keys.lane_choices import NO_VECTORS, PROMPT, SYSTEM, Choice, LanesState, choices, shadow_set
from tui_entropy.ui.pages.runs.continuations import FanState, asking, fan_here
from tui_entropy.ui.protocol.actions import Actions, EngineActions
from tui_entropy.ui.protocol.host import EngineHost, Host
from tui_entropy.ui.protocol.prompt import Prompt, Purpose
from tui_entropy.ui.views.frame import Frame

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0)
DRAWS = (2, 4, 8, 16, 32, 64)
LENGTHS = (4, 8, 16, 32, 64, 128)


def step_here(frame: Frame) -> int:
    """The step under the cursor, or where the end is followed the one that comes next."""
    return len(frame.log.steps) if frame.following or frame.cursor is None else frame.cursor


class LaneOptions(Actions[Host]):
    """The options of lanes and continuations, as they are chosen on their pages."""

    def action_lane_temperature(self, by: int) -> None:
        """The temperature of the lane that differs in it."""
        frame = self.app.frame
        self.app.show(**frame.put(LanesState, temperature=_rung(TEMPERATURES, frame.of(LanesState).temperature, by)))

    def action_draws(self, by: int) -> None:
        options = self.app.frame.of(FanState).options
        self._set(changed(options, n=_rung(DRAWS, options.n, by)))

    def action_lengths(self, by: int) -> None:
        options = self.app.frame.of(FanState).options
        self._set(changed(options, tokens=_rung(LENGTHS, options.tokens, by)))

    def _set(self, options: ContinuationOptions) -> None:
        self.app.show(**self.app.frame.put(FanState, options=options))


class ComparisonActions(EngineActions):
    """A shadow on the same tokens, and a twin beside."""

    def __init__(self, app: EngineHost, prompts: PromptActions) -> None:
        super().__init__(app)
        self._prompts = prompts

    # --- Which lane ------------------------------------------------------------------------------------------

    @property
    def _choice(self) -> Choice:
        """The one that is chosen on the page of lanes."""
        lanes = choices(self.app.frame)
        return lanes[min(self.app.frame.row, len(lanes) - 1)]

    def _lane(self) -> Lane | None:
        """The lane of a shadow or a twin to come: the chosen row where the page is open, else the one chosen last, as
        things are set now; at first one without vectors. None where nothing would differ."""
        if self.app.place == "lanes":
            return None if self._choice.same else self._choice.lane
        last = self.app.frame.of(LanesState).lane
        name = last.name if last else NO_VECTORS
        lane = next((choice for choice in choices(self.app.frame) if choice.name == name), None)
        return last if lane is None else None if lane.same else lane.lane

    def _choose_first(self, what: str) -> None:
        if self.app.place != "lanes":
            self.app.open_page("lanes")
            self.app.show(row=next(n for n, choice in enumerate(choices(self.app.frame)) if not choice.same))
        self.app.refuse(f"choose what {what} differs in: a row without a prompt asks for it with {{lanes.run}}")

    async def action_lane(self) -> None:
        """The chosen row as the shadow; none where it is that already."""
        choice, shadow = self._choice, shadow_set(self.app.frame)
        if choice.lane is None:
            await self.action_type_lane()
        elif shadow is not None and shadow.name == choice.lane.name:
            self._no_shadow()
        elif choice.same:
            self.app.refuse("this lane would be the text that is there: nothing in it differs from what is set now")
        else:
            self._shadow(choice.lane)

    async def action_type_lane(self) -> None:
        began, choice = self.app.frame.log.started, self._choice
        if choice.name not in (SYSTEM, PROMPT):
            self.app.refuse("there is nothing to type for this lane: {lanes.run} runs it")
        elif began is None:
            self.app.refuse("there is no text yet that another prompt could be given to: {prompt} asks for one")
        else:
            lane = choice.lane
            prompt = Prompt(lane.prompt or "", lane.system, began.chat) if lane else Prompt(
                began.prompt, began.system, began.chat
            )  # fmt: skip
            await self._prompts.open_box(
                Purpose.LANE, self._take_lane, prompt, first="system" if choice.name == SYSTEM else "text"
            )

    def _take_lane(self, typed: Prompt) -> bool:
        """A lane with the prompt that was typed, as the shadow; whether it differs."""
        began = self.app.frame.log.started
        if began is None or (typed.prompt, typed.system) == (began.prompt, began.system):
            self.app.refuse("this is the prompt that the text has: change it, and the shadow differs")
            return False
        name = SYSTEM if typed.prompt == began.prompt else PROMPT
        lane = Lane(name, prompt=typed.prompt, system=typed.system)
        frame = self.app.frame
        others = tuple(other for other in frame.of(LanesState).typed_lanes if other.name != name)
        self.app.show(**frame.put(LanesState, typed_lanes=(*others, lane)))
        self._shadow(lane)
        return True

    # --- Shadow and twin -------------------------------------------------------------------------------------

    def action_shadow(self) -> None:
        if shadow_set(self.app.frame) is not None:
            self._no_shadow()
        elif lane := self._lane():
            self._shadow(lane)
        else:
            self._choose_first("the shadow")

    def _shadow(self, lane: Lane) -> None:
        self.app.show(**self.app.frame.put(LanesState, lane=lane))
        self._set(lane)
        self.app.say(
            f"shadow from the next token on: {lane.name}; {{lanes}} shows what it thinks, {{shadow}} takes it away"
        )

    def _no_shadow(self) -> None:
        self._set(None)
        self.app.say("no shadow from the next token on")

    def _set(self, lane: Lane | None) -> None:
        command = SetShadow(lane)
        self.app.show(**self.app.frame.put(LanesState, awaited=command))
        self.app.tell(command)

    def on_event(self, event: Event) -> None:
        """The shadow that there is from here on, or that nothing came of what was asked for."""
        if isinstance(event, ShadowChanged | Refused | Ready):
            self.app.show(**self.app.frame.put(LanesState, awaited=None))

    def action_twin(self) -> None:
        if self.app.frame.log.started is None:
            self.app.refuse("there is no text yet that a twin could be written beside: {prompt} asks for a prompt")
        elif lane := self._lane():
            self.app.show(**self.app.frame.put(LanesState, lane=lane, awaited=None))
            self.app.tell(Twin(self.app.frame.log.run_number, step_here(self.app.frame), lane))
            self.app.close_page()
            where = f"twin from step {step_here(self.app.frame) + 1} on"
            self.app.say(f"{where}: {lane.name}, with the same luck; {{focus}} goes to the other lane")
        else:
            self._choose_first("the twin")


class ContinuationActions(EngineActions):
    """Short continuations from a step: asked for, and taken."""

    def action_fan(self) -> None:
        log = self.app.frame.log
        if self.app.place == "fan":
            self.app.close_page()
            return
        if log.started is None:
            self.app.refuse("there is no text yet that could go on: {prompt} asks for a prompt")
            return
        position = len(log.run.started.prompt_tokens) + step_here(self.app.frame)
        self.app.show(**self.app.frame.put(FanState, run=log.run_number, position=position), row=0)
        if fan_here(self.app.frame) is None:
            self.action_ask_fan()
        self.app.open_page("fan")

    def action_ask_fan(self) -> None:
        frame = self.app.frame
        self.app.show(**frame.put(FanState, awaited=frame.of(FanState).options))
        self.app.tell(asking(frame))

    def action_same_text(self) -> None:
        options = self.app.frame.of(FanState).options
        other = "exact" if options.same == "normalised" else "normalised"
        self.app.show(**self.app.frame.put(FanState, options=changed(options, same=other)))
        self.action_ask_fan()

    def action_take_fan(self) -> None:
        frame = self.app.frame
        log, fan = frame.log, frame.log.sampled
        if fan is None or not fan.rows:
            self.app.refuse("there is no continuation yet that could be taken")
            return
        lines, answer = fan.in_order, log.answers[CONTINUATIONS]
        row, step = lines[min(frame.row, len(lines) - 1)], answer.position - len(log.run.started.prompt_tokens)
        self.app.tell(Branch(answer.run, step, token_ids=row.token_ids, pause=log.state == "paused"))
        self.app.close_page()

    def on_event(self, event: Event) -> None:
        """An answer, or that there will be none."""
        if isinstance(event, Refused) or (isinstance(event, ProbeAnswer) and event.name == CONTINUATIONS):
            self.app.show(**self.app.frame.put(FanState, awaited=None))


def _rung(rungs: tuple[Any, ...], now: Any, by: int) -> Any:
    """The next of them up or down; the last one stays."""
    beyond = [rung for rung in rungs if (rung > now if by > 0 else rung < now)]
    return now if not beyond else beyond[0] if by > 0 else beyond[-1]
