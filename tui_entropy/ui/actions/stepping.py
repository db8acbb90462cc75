"""What the keys do at a stop and on an earlier step: another token, another text, and how far to write on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as changed

from tui_entropy.records.commands import Advance, Branch
from tui_entropy.ui.dialogs.ask_line import spelled
from tui_entropy.ui.drawing.glyphs import visible, visible_bytes, visible_token
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.protocol.remark import Remark

if TYPE_CHECKING:
    from tui_entropy.ui.protocol.remark import Check


CAN_WRITE = ("reading", "writing", "paused")
NOTHING_CHOSEN = "nothing is chosen: space pauses, left goes back, up and down choose; enter writes on from there"


class StopActions(Host):
    """The part of the app that steers token by token. The app has the rest of what is named here."""

    # --- How far ---------------------------------------------------------------------------------------------

    def _advance(self, wanted: Advance) -> None:
        if self.frame.log.state in CAN_WRITE:
            self.tell(wanted)
        else:
            self.say_why_not()

    def action_advance(self) -> None:
        self._advance(Advance(1))

    def action_until(self, end: str) -> None:
        self._advance(Advance(until=end))

    def action_write_some(self) -> None:
        if self.frame.log.state in CAN_WRITE:
            self.ask("write how many tokens?", lambda text: self._advance(Advance(int(text))), check=number(1, 10**6))
        else:
            self.say_why_not()

    def action_jump(self) -> None:
        last = self.frame.last + 1
        if last < 1:
            self.refuse("there is no step yet to jump to")
            return
        self.ask("jump to which step?", lambda text: self.go_to(int(text) - 1), check=number(1, last))

    # --- Which token -----------------------------------------------------------------------------------------

    def action_select(self, by: int) -> None:
        if self.page is None:
            self.show(**self.frame.selecting(by))

    @property
    def _may_branch(self) -> bool:
        """Whether another way can be taken from the step under the cursor; else it is said why not."""
        if self.frame.second and self.frame.log.twin:
            self.refuse("another token is taken in the first lane: tab goes there")
            return False
        if self.frame.step is None or self.frame.log.state not in (*CAN_WRITE, "ended"):
            self.say_why_not()
            return False
        return True

    def branch(self, **how: Any) -> None:
        """Write on from before the step under the cursor; where writing rests, it rests again after that."""
        frame = self.frame
        assert frame.cursor is not None
        self.tell(Branch(frame.log.run_number, frame.cursor, pause=frame.log.state == "paused", **how))
        self.show(token=0)

    async def action_take(self) -> None:
        """The chosen candidate, or what is there: to go back and on again unchanged."""
        frame, step, chosen = self.frame, self.frame.step, self.frame.candidate
        if step is None and frame.log.state not in ("failed", "lost"):
            await self.action_prompt()
        elif not self._may_branch or step is None:
            return
        elif frame.held_up and (chosen is None or chosen.token_id == step.token_id):
            self._advance(Advance(1))
        elif chosen is None and frame.following:
            self.refuse(NOTHING_CHOSEN)
        else:
            self.branch(token_ids=(chosen.token_id,) if chosen else ())

    def action_ban(self) -> None:
        """The chosen candidate, else the token that is there, at this step; what is banned here already stays so."""
        frame, step = self.frame, self.frame.step
        if self._may_branch and step is not None:
            here = [c.token_id for c in step.candidates if c.cut == "banned" and c.token_id not in frame.knobs.banned]
            token_id, name = self._meant
            self.branch(ban=tuple(dict.fromkeys([*(here if frame.held_up else []), token_id])))
            self.say(f"{name} is banned at step {step.index + 1}; X bans from there on")

    def action_ban_on(self) -> None:
        if not self._may_branch:
            return
        knobs, (token_id, name) = self.frame.knobs, self._meant
        allowed = tuple(one for one in knobs.banned if one != token_id)
        ban = allowed == knobs.banned
        self.set_knobs(changed(knobs, banned=(*allowed, token_id) if ban else allowed))
        if ban and not self.frame.held_up:
            self.branch()
        self.say(f"{name} is {'banned from here on; X on it' if ban else 'allowed again; X'} undoes that")

    @property
    def _meant(self) -> tuple[int, str]:
        """Id and name of the chosen candidate, else of the token that is there."""
        chosen = self.frame.candidate or self.frame.step
        assert chosen
        return chosen.token_id, visible_token(chosen.token_id, chosen.data, self.frame.paint.ascii)

    def action_force(self) -> None:
        frame = self.frame
        if not self._may_branch or frame.cursor is None:
            return
        self.show(following=frame.following and frame.held_up)
        wanted = Branch(frame.log.run_number, frame.cursor, pause=frame.log.state == "paused")

        def check(typed: str) -> Remark:
            if not typed:
                return Remark("type what is written there, a space in front of a word too; \\n is a newline", 0)
            return Remark(f"writes {visible_bytes(spelled(typed).encode(), frame.paint.ascii)}")

        self.ask(
            f"force from step {frame.cursor + 1} on:",
            lambda typed: self.tell(changed(wanted, text=spelled(typed))),
            check=check,
        )


def number(least: int, most: int) -> Check:
    """Of an answer that must be a whole number."""

    def check(text: str) -> Remark:
        wrong = next((at for at, letter in enumerate(text) if letter not in "0123456789"), None)
        if wrong is not None:
            return Remark(f"{visible(text[wrong], True, True)} is no digit: type a whole number", wrong)
        if not text or not least <= int(text) <= most:
            return Remark(f"a number from {least} to {most}", 0)
        return Remark()

    return check
