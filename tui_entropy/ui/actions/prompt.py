"""The box for text of several lines: what it is opened for, and what becomes of what is sent."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tui_entropy.core.sequences import n_common
from tui_entropy.records.commands import Branch, Write
from tui_entropy.records.events import TEXT_READ, Event, Paused
from tui_entropy.ui.dialogs.pasted_text import typed_as
from tui_entropy.ui.keys.needs import GONE
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import EngineHost
from tui_entropy.ui.protocol.prompt import Prompt, Purpose

if TYPE_CHECKING:
    from tui_entropy.ui.dialogs.prompt_box import PromptBox


MAX_TOKENS = 512


class PromptActions(Actions[EngineHost]):
    """The actions of the prompt box: what it is opened for, what is typed in it, and what becomes of what is sent."""

    commanding = frozenset({"prompt", "edit", "edit_prompt", "open_prompt", "send"})

    def __init__(self, app: EngineHost, looks_at: int | None = None) -> None:
        super().__init__(app)
        self.box: PromptBox | None = None
        self._take: Callable[[Prompt], bool] = self._write_anew
        """What takes what is sent; whether it did."""
        self._opened = looks_at
        """The position that is looked at once a text has been read."""

    def may(self, action: str, arguments: tuple[Any, ...]) -> bool:
        return action != "recall" or self.box is None or self.box.may_recall(int(arguments[0]))

    async def open_box(
        self,
        purpose: Purpose,
        take: Callable[[Prompt], bool],
        given: Prompt | None = None,
        at: int | None = None,
        first: str = "text",
    ) -> None:
        """take: gets what is sent; the box stays open where it says False.
        given: what stands in it; None for what was left of the last new prompt.
        at: the character where the caret stands, None for the end. first: the field it is in, 'text' or 'system'.
        """
        self.app.close_page()
        if self.box is None:
            from tui_entropy.ui.dialogs.prompt_box import History, PromptBox  # Textual's editor comes with it

            card, wrote = self.app.frame.log.card, self.app.requests.wrote
            chat = (card is None or card.has_chat_template) and (wrote is None or wrote.chat is not False)
            self.box = PromptBox(Prompt("", wrote.system if wrote else None, chat), History())
            await self.app.base.mount(self.box, before="#hints")
        self._take = take
        self.box.open(purpose, given, at, first)
        self.app.show(box=self.box.has)

    # --- What it is opened for -------------------------------------------------------------------------------

    async def action_prompt(self) -> None:
        await self.open_box(Purpose.NEW, self._write_anew)

    async def action_edit_prompt(self) -> None:
        began = self.app.frame.log.started
        if began is None:
            self.app.refuse("nothing was asked yet: {prompt} asks for a prompt")
            return
        prompt = Prompt(typed_as(began.prompt), typed_as(began.system or ""), began.chat, began.n_given > 0)
        await self.open_box(Purpose.PROMPT, self._write_from_edited, prompt)

    async def action_edit(self) -> None:
        """The text that was written, with the caret at the cursor."""
        frame, texts = self.app.frame, self.app.frame.log.steps.texts
        if not frame.log.started or not texts:
            self.app.refuse("nothing is written yet that could be edited: {edit.prompt} edits the prompt")
            return
        at = len(texts) if frame.following or frame.cursor is None else frame.cursor
        text = Prompt(typed_as("".join(texts)), None, False)
        await self.open_box(Purpose.EDIT, self._write_on_from, text, at=sum(map(len, texts[:at])))

    def action_open_prompt(self) -> None:
        """Read the text from its first token on, so that a step is known of each; the cursor stays where it was, and
        from the end of the text goes to the last token of the prompt."""
        frame, began = self.app.frame, self.app.frame.log.started
        if began is None:
            self.app.refuse("nothing was asked yet: {prompt} asks for a prompt")
            return
        if began.n_given:
            self.app.refuse("each token of this text is a step already: left and home go to the first ones")
            return
        n_prompt, steps = len(began.prompt_tokens), frame.log.steps
        token_ids = (*(token.token_id for token in began.prompt_tokens), *steps.ids)
        if len(token_ids) < 2:
            self.app.refuse("the prompt has one token, and nothing comes before the first")
            return
        wrote = self.app.requests.wrote
        text = "".join([*(token.text for token in began.prompt_tokens), *steps.texts])
        limit, run = wrote.max_tokens if wrote else MAX_TOKENS, frame.log.run_number
        self.app.write(Write(text, None, False, limit, frame.knobs, parent=run, read=True, token_ids=token_ids))
        back = not frame.following and frame.cursor is not None
        self._opened = n_prompt + frame.cursor if back and frame.cursor else n_prompt - 1

    def on_event(self, event: Event) -> None:
        """Once the prompt is open, look where it was asked for."""
        if isinstance(event, Paused) and event.reason == TEXT_READ and self._opened is not None:
            self.app.show(cursor=max(self._opened - 1, 0), following=False)
            self._opened = None

    # --- What becomes of what is sent ------------------------------------------------------------------------

    def action_send(self) -> None:
        if self.box is not None and (prompt := self.box.typed()) is not None and self._take(prompt):
            self.box.sent()
            self.action_close_prompt()

    def _write_anew(self, prompt: Prompt, parent: int | None = None) -> bool:
        wrote, frame = self.app.requests.wrote, self.app.frame
        limit = wrote.max_tokens if wrote else MAX_TOKENS
        write = Write(prompt.prompt, prompt.system, prompt.chat, limit, frame.knobs, parent=parent, read=prompt.read)
        self._opened = None
        self.app.write(write)
        if self.app.frame.log.state in GONE:
            self.app.say("the engine is gone: {restart} starts it again, and then this prompt is written")
        return True

    def _write_from_edited(self, prompt: Prompt) -> bool:
        log = self.app.frame.log
        if log.started and (prompt.prompt, prompt.system) == (log.started.prompt, log.started.system):
            self.app.refuse("nothing is changed: {again} writes from this prompt again")
            return False
        return self._write_anew(prompt, log.run_number)

    def _write_on_from(self, typed: Prompt) -> bool:
        """From where the text was changed; whether it was."""
        log = self.app.frame.log
        texts = log.steps.texts
        if typed.prompt == typed_as("".join(texts)):
            self.app.refuse("nothing is changed, so nothing is written")
            return False
        n_kept, rest = edited(texts, typed.prompt)
        self.app.tell(Branch(log.run_number, n_kept, text=rest, pause=log.state == "paused"))
        self.app.say(f"{n_kept} of {len(texts)} tokens are kept, and what you typed comes after them")
        return True

    # --- In the box ------------------------------------------------------------------------------------------

    def action_close_prompt(self) -> None:
        if self.box:
            self.app.focus_on("stream")
            self.box.display = False

    def action_newline(self) -> None:
        if self.box:
            self.box.newline()

    def action_recall(self, by: int) -> None:
        if self.box:
            self.box.recall(by)
            self.app.show(box=self.box.has)

    def action_chat_or_raw(self) -> None:
        card = self.app.frame.log.card
        if self.box:
            self.box.next_mode(card is None or card.has_chat_template)
            self.app.show(box=self.box.has)

    def action_system(self) -> None:
        if self.box:
            self.box.switch_field()


def edited(texts: list[str], new: str) -> tuple[int, str]:
    """The number of tokens that stay, and the text after them. What was not touched is as it was, letter by letter,
    also what an editor could not show.

    texts: what each token completes. new: all of it, as it came out of an editor that was given `typed_as`.
    """
    before = "".join(texts)
    shown = typed_as(before)
    same = n_common(shown, new)
    after = n_common(shown[same:][::-1], new[same:][::-1])
    whole = before[:same] + new[same : len(new) - after] + before[len(before) - after :]
    ends = list(accumulate(map(len, texts)))
    n_kept = sum(end <= same for end in ends)
    while n_kept and not texts[n_kept - 1]:  # it waits for the rest of a character that is no longer there
        n_kept -= 1
    return n_kept, whole[ends[n_kept - 1] if n_kept else 0 :]
