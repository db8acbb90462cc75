"""The actions of writing: when, how far, and at a stop or on an earlier step another token or another text."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace as changed

from tui_entropy.records.commands import Advance, Branch, Continue, Pause, Stop
from tui_entropy.ui.actions.knobs import KnobActions
from tui_entropy.ui.actions.prompt import PromptActions
from tui_entropy.ui.dialogs.ask_line import number, unescape
from tui_entropy.ui.drawing.glyphs import visible_bytes, visible_token
from tui_entropy.ui.keys import knob_steps
from tui_entropy.ui.keys.needs import GOING, GONE, can_go_on
from tui_entropy.ui.protocol.actions import EngineActions
from tui_entropy.ui.protocol.host import EngineHost
from tui_entropy.ui.protocol.remark import Remark

BUSY = ("reading", "writing")
NOTHING_CHOSEN = (
    "nothing is chosen: {pause} pauses, {back} goes back, {candidate.up} and {candidate.down} choose; {take} writes "
    "on from there"
)


def say_why_not(app: EngineHost) -> None:
    """Why nothing can be written on now."""
    reasons = {
        "starting": "the engine is still starting",
        "loading": "the model is still loading",
        "ready": "nothing is being written: {prompt} asks for a prompt",
        "ended": "this text has ended: {again} writes it again, {prompt} asks for a new prompt",
    }
    app.refuse(reasons.get(app.frame.log.state, "the engine is gone: {restart} starts it again"))


def advance(app: EngineHost, command: Advance) -> None:
    """Write that far, where anything can be written."""
    if can_go_on(app.frame):
        app.tell(command)
    else:
        say_why_not(app)


class WriteActions(EngineActions):
    """When it is written, and how far."""

    def action_pause(self) -> None:
        if self.app.frame.log.state in BUSY:
            self.app.tell(Pause())
        elif can_go_on(self.app.frame):
            self.app.tell(Continue())
        else:
            say_why_not(self.app)

    def action_stop(self) -> None:
        if self.app.frame.log.state in GOING:
            self.app.tell(Stop())
        else:
            say_why_not(self.app)

    def action_again(self, by: int) -> None:
        """The same prompt, with the seed moved on by this much."""
        frame, wrote = self.app.frame, self.app.requests.wrote
        if frame.log.state in GONE or wrote is None:
            say_why_not(self.app)
            return
        knobs = knob_steps.adjusted(frame.knobs, "seed", by) if by else frame.knobs
        self.app.show(knobs=knobs)
        self.app.write(changed(wrote, knobs=knobs))
        self.app.say(f"once more with seed {knobs.seed}")

    def action_restart(self) -> None:
        if self.app.frame.log.state in GONE:
            self.app.begin_engine()
            self.app.say("starting the engine again; what was written stays until something new is")
        else:
            self.app.refuse("the engine is up; {restart} starts it again when it is gone")

    def action_advance(self) -> None:
        advance(self.app, Advance(1))

    def action_until(self, end: str) -> None:
        advance(self.app, Advance(until=end))

    def action_write_some(self) -> None:
        if can_go_on(self.app.frame):
            self.app.ask(
                "write how many tokens?",
                lambda text: advance(self.app, Advance(int(text))),
                check=number(1, 10**6),
            )
        else:
            say_why_not(self.app)


class StepActions(EngineActions):
    """Which token is written at the step under the cursor."""

    def __init__(self, app: EngineHost, knobs: KnobActions, prompts: PromptActions) -> None:
        super().__init__(app)
        self._knobs, self._prompts = knobs, prompts

    @property
    def _may_branch(self) -> bool:
        """Whether another way can be taken from the step under the cursor; else it is said why not."""
        if self.app.frame.second and self.app.frame.log.twin:
            self.app.refuse("another token is taken in the first lane: {focus} goes there")
            return False
        if self.app.frame.step is None or self.app.frame.log.state not in (*GOING, "ended"):
            say_why_not(self.app)
            return False
        return True

    def _branch(self, **how: Any) -> None:
        """Write on from before the step under the cursor; where writing rests, it rests again after that."""
        frame = self.app.frame
        assert frame.cursor is not None
        self.app.tell(Branch(frame.log.run_number, frame.cursor, pause=frame.log.state == "paused", **how))
        self.app.show(token=0)

    async def action_take(self) -> None:
        """The chosen candidate, or what is there: to go back and on again unchanged."""
        frame, step, chosen = self.app.frame, self.app.frame.step, self.app.frame.candidate
        if step is None and frame.log.state not in ("failed", "lost"):
            await self._prompts.action_prompt()
        elif not self._may_branch or step is None:
            return
        elif frame.held_up and (chosen is None or chosen.token_id == step.token_id):
            advance(self.app, Advance(1))
        elif chosen is None and frame.following:
            self.app.refuse(NOTHING_CHOSEN)
        else:
            self._branch(token_ids=(chosen.token_id,) if chosen else ())

    def action_ban(self) -> None:
        """The chosen candidate, else the token that is there, at this step; what is banned here already stays so."""
        frame, step = self.app.frame, self.app.frame.step
        if self._may_branch and step is not None:
            here = [c.token_id for c in step.candidates if c.cut == "banned" and c.token_id not in frame.knobs.banned]
            token_id, name = self._chosen_token
            self._branch(ban=tuple(dict.fromkeys([*(here if frame.held_up else []), token_id])))
            self.app.say(f"{name} is banned at step {step.index + 1}; {{ban.on}} bans from there on")

    def action_ban_on(self) -> None:
        if not self._may_branch:
            return
        knobs, (token_id, name) = self.app.frame.knobs, self._chosen_token
        allowed = tuple(one for one in knobs.banned if one != token_id)
        ban = allowed == knobs.banned
        self._knobs.set(changed(knobs, banned=(*allowed, token_id) if ban else allowed))
        if ban and not self.app.frame.held_up:
            self._branch()
        self.app.say(
            f"{name} is {'banned from here on; {ban.on} on it' if ban else 'allowed again; {ban.on}'} undoes that"
        )

    @property
    def _chosen_token(self) -> tuple[int, str]:
        """Id and name of the chosen candidate, else of the token that is there."""
        chosen = self.app.frame.candidate or self.app.frame.step
        assert chosen
        return chosen.token_id, visible_token(chosen.token_id, chosen.token_bytes, self.app.frame.paint.ascii)

    def action_force(self) -> None:
        frame = self.app.frame
        if not self._may_branch or frame.cursor is None:
            return
        self.app.show(following=frame.following and frame.held_up)
        command = Branch(frame.log.run_number, frame.cursor, pause=frame.log.state == "paused")

        def check(typed: str) -> Remark:
            if not typed:
                return Remark("type what is written there, a space in front of a word too; \\n is a newline", 0)
            return Remark(f"writes {visible_bytes(unescape(typed).encode(), frame.paint.ascii)}")

        self.app.ask(
            f"force from step {frame.cursor + 1} on:",
            lambda typed: self.app.tell(changed(command, text=unescape(typed))),
            check=check,
        )
