"""One question on one line over the key hints, and what is to be said of the answer while it is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual import events
from textual.strip import Strip

from tui_entropy.core.errors import UserError
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.protocol.remark import Check, Remark
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import View
from tui_entropy.ui.views.wording import wrap

if TYPE_CHECKING:
    from textual.screen import Screen


def unescape(typed: str) -> str:
    """The text that was meant: `\\n` is a newline, `\\t` a tab, `\\\\` a backslash. Any other backslash is one."""
    parts = typed.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\t", "\t") for part in parts)


def number(least: int, most: int) -> Check:
    """The check of an answer that must be a whole number."""

    def check(text: str) -> Remark:
        wrong = next((at for at, letter in enumerate(text) if letter not in "0123456789"), None)
        if wrong is not None:
            return Remark(f"{visible(text[wrong], True, True)} is no digit: type a whole number", wrong)
        if not text or not least <= int(text) <= most:
            return Remark(f"a number from {least} to {most}", 0)
        return Remark()

    return check


class Ask(View, can_focus=True):
    """Three rows: the question and the answer; a caret under what is wrong; why. Up and down go through earlier
    answers."""

    def __init__(
        self,
        question: str,
        take: Callable[[str], None],
        text: str,
        check: Check,
        answers: list[str],
        choices: str = "",
    ) -> None:
        """choices: letters each of which is an answer, taken as it is typed."""
        super().__init__()
        self.choices = choices
        self.question, self.take, self.check, self.answers = question, take, check, answers
        self.text, self.caret = text, len(text)
        self._age, self._draft = 0, ""

    @property
    def remark(self) -> Remark:
        return self.check(self.text)

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint = frame.paint
        question = fitted(self.question, min(cells(self.question), width // 2), paint.ascii)
        glyphs = [visible(char, paint.ascii, in_table=True) for char in self.text] + [" "]
        room, first = width - cells(question) - 1, 0
        while first < self.caret and cells("".join(glyphs[first : self.caret + 1])) > room:
            first += 1
        parts: list[Part] = [(question, paint.title), (" ", paint.base)]
        for at, glyph in enumerate(glyphs[first:], first):
            parts.append((glyph, paint.cursor if at == self.caret else paint.base))
        sentence, at_fault = self.remark
        remark = (visible(paint.ours(sentence), paint.ascii, True), paint.dim if at_fault is None else paint.warning)
        before = cells(question) + 1
        if at_fault is None:
            beside = before + cells(remark[0]) <= width
            rows = [parts, [(" " * before, paint.base), remark]] if beside else [parts, *wrap([remark], width)]
        else:
            before += cells("".join(glyphs[first : max(at_fault, first)]))
            caret = [(" " * min(before, width - 1), paint.base), ("^ ", paint.warning)]
            beside = before + 2 + cells(remark[0]) <= width
            rows = [parts, [*caret, remark]] if beside else [parts, caret, [remark]]
        return [paint.row(row, width) for row in rows][:height]

    # --- Editing ---------------------------------------------------------------------------------------------

    def write(self, text: str, first: int | None = None, last: int | None = None) -> None:
        """Put text in place of the characters from first to last, by default at the caret; the caret follows it."""
        first = self.caret if first is None else max(first, 0)
        last = self.caret if last is None else last
        self.text = self.text[:first] + text + self.text[last:]
        self.caret = first + len(text)
        self.redraw()

    def recall(self, by: int) -> None:
        age = self._age + by
        if 0 <= age <= len(self.answers):
            if not self._age:
                self._draft = self.text
            self._age = age
            self.write(self.answers[-age] if age else self._draft, 0, len(self.text))

    def on_key(self, event: events.Key) -> None:
        """Everything that is typed is meant for the answer."""
        caret, size = self.caret, len(self.text)
        moved = {"left": caret - 1, "right": caret + 1, "home": 0, "end": size}.get(event.key)
        cut = {"backspace": (caret - 1, caret), "delete": (caret, caret + 1), "ctrl+u": (0, caret)}.get(event.key)
        if moved is not None:
            self.caret = min(max(moved, 0), size)
            self.redraw()
        elif cut is not None:
            self.write("", *cut)
        elif event.is_printable and event.character:
            self.write(event.character)
            if self.text in (self.choices and tuple(self.choices)):
                self.app.call_later(self.app.run_action, "answer")
        elif event.key not in ("tab", "shift+tab"):
            return
        event.stop()
        event.prevent_default()

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        self.write(event.text.replace("\r\n", "\n").replace("\n", "\\n"))


class Questions(Actions[Host]):
    """The question that is open, and what was answered to those before."""

    def __init__(self, app: Host) -> None:
        super().__init__(app)
        self.question: Ask | None = None
        self._answers: dict[str, list[str]] = {}
        """First word of a question -> what was answered, oldest first."""

    @property
    def asking(self) -> bool:
        """Whether a question is on the screen that is seen."""
        return self.question is not None and self.question.is_attached and self.question.screen is self.app.screen

    def ask(
        self,
        question: str,
        take: Callable[[str], None],
        text: str = "",
        check: Check = lambda _: Remark(),
        choices: str = "",
    ) -> None:
        """Ask over the key hints; the answer goes to `take`, whose UserError is said.

        text: the answer to begin with. check: asked at every key; what it says stands under the answer.
        choices: as Ask has them.
        """
        self.action_no_answer()
        answers = self._answers.setdefault(question.split(" ")[0], [])
        self.question = Ask(question, take, text, check, answers, choices)
        self.question.frame = self.app.frame
        self.app.screen.mount(self.question, before="#hints")
        self.app.call_after_refresh(self._attend, self.question)

    def _attend(self, question: Ask) -> None:
        if question.is_attached:
            question.focus()
            question.redraw()
        self.app.show(place=self.app.place)

    def action_answer(self) -> None:
        question = self.question
        if question is None or question.remark.at is not None:
            return
        self.action_no_answer()
        if question.text and question.text not in question.answers[-1:]:
            question.answers.append(question.text)
        try:
            question.take(question.text)
        except UserError as mistake:
            self.app.refuse(str(mistake))

    def action_no_answer(self) -> None:
        if self.question is not None:
            where: Screen[Any] | None = self.question.screen if self.question.is_attached else None
            if where is not None:  # before the question goes: else whatever is next to it has the focus for a moment
                where.set_focus(next(iter(where.query("#stream")), None))
            self.question.remove()
            self.question = None
            self.app.show(place=self.app.place)

    def action_earlier_answer(self, by: int) -> None:
        if self.question is not None:
            self.question.recall(by)
