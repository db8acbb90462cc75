"""The box for text of several lines: what it is opened for, and what becomes of what is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_entropy.records.commands import Write
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.protocol.prompt import Prompt, Purpose

if TYPE_CHECKING:
    from tui_entropy.ui.dialogs.prompt_box import PromptBox


MAX_TOKENS = 512


class PromptActions(Host):
    """The part of the app that opens the box and takes what is sent. The app has the rest of what is named here."""

    prompt_box: PromptBox | None = None

    async def open_box(
        self, purpose: Purpose, given: Prompt | None = None, at: int | None = None, first: str = "text"
    ) -> None:
        """given: what stands in it; None for what was left of the last new prompt.
        at: the character where the caret stands, None for the end. first: the field it is in, 'text' or 'system'.
        """
        self.action_close_page()
        if self.prompt_box is None:
            from tui_entropy.ui.dialogs.prompt_box import History, PromptBox  # Textual's editor comes with it

            card, wrote = self.frame.log.card, self.wrote
            chat = (card is None or card.has_chat_template) and (wrote is None or wrote.chat is not False)
            self.prompt_box = PromptBox(Prompt("", wrote.system if wrote else None, chat), History())
            await self.base.mount(self.prompt_box, before="#hints")
        self.prompt_box.open(purpose, given, at, first)
        self.show(box=self.prompt_box.has)

    async def action_prompt(self) -> None:
        await self.open_box(Purpose.NEW)

    def action_close_prompt(self) -> None:
        if self.prompt_box:
            self.focus_on("stream")
            self.prompt_box.display = False

    def action_send(self) -> None:
        box = self.prompt_box
        if box is None or (prompt := box.typed()) is None:
            return
        match box.purpose:
            case Purpose.EDIT:
                sent = self.take_edit(prompt.prompt)
            case Purpose.LANE:
                sent = self.take_lane(prompt)
            case purpose:
                sent = self._write_from(prompt, self.frame.log.run_number if purpose is Purpose.PROMPT else None)
        if sent:
            box.sent()
            self.action_close_prompt()

    def _write_from(self, prompt: Prompt, parent: int | None) -> bool:
        began = self.frame.log.started
        if parent and began and (prompt.prompt, prompt.system) == (began.prompt, began.system):
            self.refuse("nothing is changed: g writes from this prompt again")
            return False
        limit = self.wrote.max_tokens if self.wrote else MAX_TOKENS
        self.write(Write(prompt.prompt, prompt.system, prompt.chat, limit, self.frame.knobs, parent=parent))
        if self.frame.log.state in ("failed", "lost"):
            self.say("the engine is gone: E starts it again, and then this prompt is written")
        return True

    def action_newline(self) -> None:
        if self.prompt_box:
            self.prompt_box.newline()

    def action_recall(self, by: int) -> None:
        if self.prompt_box:
            self.prompt_box.recall(by)
            self.show(box=self.prompt_box.has)

    def action_chat_or_raw(self) -> None:
        card = self.frame.log.card
        if self.prompt_box and not self.prompt_box.chat and card and not card.has_chat_template:
            self.refuse("this model has no chat template: it writes on from raw text")
        elif self.prompt_box:
            self.prompt_box.toggle_mode()
            self.show(box=self.prompt_box.has)

    def action_system(self) -> None:
        if self.prompt_box:
            self.prompt_box.switch_field()
