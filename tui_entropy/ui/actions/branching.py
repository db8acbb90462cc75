"""Branches: to one, its name, its star, its end; what tells two apart; and text that was written, edited."""

from __future__ import annotations

from itertools import accumulate

from tui_entropy.records.commands import Branch, Go, Label
from tui_entropy.state.run_view import RunView
from tui_entropy.ui.dialogs.pasted_text import typed_as
from tui_entropy.ui.pages.branches import chosen
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.protocol.prompt import Prompt, Purpose


class BranchActions(Host):
    """The part of the app that knows branches. The app has the rest of what is named here."""

    # --- On the page of branches -----------------------------------------------------------------------------

    @property
    def chosen_branch(self) -> RunView | None:
        """The one that is chosen there."""
        return self.frame.log.runs.get(chosen(self.frame))

    def go_to_run(self, run: int) -> None:
        self.tell(Go(run))

    def action_go(self) -> None:
        if self.chosen_branch is None:
            return
        run = self.chosen_branch.started.run
        self.action_close_page()
        if run == self.frame.log.run_number:
            self.refuse(f"run {run} is the one on screen")
        else:
            self.go_to_run(run)

    def action_star(self) -> None:
        if told := self.chosen_branch:
            self.tell(Label(told.started.run, starred=not told.starred))

    def action_delete(self) -> None:
        """Or show it again where it is hidden."""
        if (told := self.chosen_branch) is None:
            return
        run = told.started.run
        self.tell(Label(run, deleted=not told.deleted))
        self.say(f"run {run} is shown again" if told.deleted else f"run {run} is hidden: h lists what is hidden")

    def action_hidden(self) -> None:
        self.show(hidden=not self.frame.hidden)

    def action_name(self) -> None:
        if told := self.chosen_branch:
            run = told.started.run
            self.ask(f"name of run {run}:", lambda name: self.tell(Label(run, name=name.strip())), told.name)

    def action_to_branches(self) -> None:
        self.action_open("branches")

    def action_diff(self) -> None:
        if self.chosen_branch is None or self.chosen_branch is self.frame.log.run:
            self.refuse("this is the run on screen: choose another one, and d shows where the two differ")
            return
        self.show(branch=self.chosen_branch.started.run, row=0)
        self.action_open("diff")

    # --- Edits -----------------------------------------------------------------------------------------------

    async def action_edit(self) -> None:
        """The text that was written, with the caret at the cursor."""
        texts = self.frame.log.steps.texts
        if not self.frame.log.started or not texts:
            self.refuse("nothing is written yet that could be edited: I edits the prompt")
            return
        at = len(texts) if self.frame.following or self.frame.cursor is None else self.frame.cursor
        text = Prompt(typed_as("".join(texts)), None, False)
        await self.open_box(Purpose.EDIT, text, at=sum(map(len, texts[:at])))

    async def action_edit_prompt(self) -> None:
        began = self.frame.log.started
        if began is None:
            self.refuse("nothing was asked yet: i asks for a prompt")
            return
        await self.open_box(Purpose.PROMPT, Prompt(typed_as(began.prompt), typed_as(began.system or ""), began.chat))

    def take_edit(self, text: str) -> bool:
        """Write on from where the text was changed; whether it was."""
        texts = self.frame.log.steps.texts
        before = "".join(texts)
        if text == typed_as(before):
            self.refuse("nothing is changed, so nothing is written")
            return False
        kept, rest = edited(texts, text)
        self.tell(Branch(self.frame.log.run_number, kept, text=rest, pause=self.frame.log.state == "paused"))
        self.say(f"{kept} of {len(texts)} tokens are kept, and what you typed comes after them")
        return True


def edited(texts: list[str], new: str) -> tuple[int, str]:
    """How many of the tokens stay, and what comes after them. What was not touched is as it was, letter by letter,
    also what an editor could not show.

    texts: what each token completes. new: all of it, as it came out of an editor that was given `typed_as`.
    """
    before = "".join(texts)
    shown = typed_as(before)
    same = _alike(shown, new)
    after = _alike(shown[same:][::-1], new[same:][::-1])
    whole = before[:same] + new[same : len(new) - after] + before[len(before) - after :]
    ends = list(accumulate(map(len, texts)))
    kept = sum(end <= same for end in ends)
    while kept and not texts[kept - 1]:  # it waits for the rest of a character that is no longer there
        kept -= 1
    return kept, whole[ends[kept - 1] if kept else 0 :]


def _alike(one: str, other: str) -> int:
    """How many letters the two begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
