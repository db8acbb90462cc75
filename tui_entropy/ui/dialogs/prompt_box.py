"""The box for text: several lines, a history of prompts that is kept, chat template or raw, a system prompt."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from tui_entropy.core import paths
from tui_entropy.core.files import bytes_of, kept_open
from tui_entropy.ui.dialogs.pasted_text import typed_as
from tui_entropy.ui.protocol.prompt import Prompt, Purpose

MAX_PROMPTS = 500
"""Prompts of the history that are looked at."""


class History:
    """Prompts that were sent, oldest first, one JSON line each. A line that cannot be read is passed over."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or paths.state() / "prompts.jsonl"
        try:
            lines = bytes_of(self.file).splitlines()[-MAX_PROMPTS:]
        except OSError:
            lines = []
        self.prompts = [prompt for line in lines if (prompt := _read(line))]

    def add(self, prompt: Prompt) -> None:
        """Keep it for the next start too, where the file can be written. The same twice in a row is kept once."""
        if self.prompts[-1:] == [prompt]:
            return
        self.prompts.append(prompt)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            file = kept_open(self.file, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(file, "ab") as out:
                out.write(msgspec.json.encode(prompt) + b"\n")
        except OSError:
            pass  # a history that cannot be kept is no reason to stop


def _read(line: bytes) -> Prompt | None:
    try:
        return msgspec.json.decode(line, type=Prompt)
    except msgspec.DecodeError:
        return None


class Field(TextArea):
    """Draws a glyph, letter for letter, for what a terminal would obey or hide; what it holds stays as it is."""

    def get_line(self, line_index: int) -> Text:
        return Text(typed_as(self.document.get_line(line_index)), end="", no_wrap=True)


class PromptBox(Vertical):
    """Its keys are in the table of keys; the app calls these methods."""

    def __init__(self, now: Prompt, history: History) -> None:
        super().__init__(id="prompt")
        self.purpose = Purpose.NEW
        self.chat, self.read = now.chat, now.read
        self.history = history
        self._age = 0
        """How far back in the history: 0 is what is being typed."""
        self._draft = ""
        self._left = now
        """A new prompt as it was left, while the box is there for something else."""
        self.text = self._field("", "prompt-text", "what to write from")
        self.system = self._field(now.system or "", "prompt-system", "system prompt; empty for the template's own")

    @staticmethod
    def _field(text: str, id: str, empty: str) -> TextArea:
        area = Field(text, id=id, placeholder=empty, compact=True, highlight_cursor_line=False, soft_wrap=True)
        area.cursor_blink = False  # a blinking cursor sends bytes for ever
        return area

    def compose(self) -> ComposeResult:
        yield Static("", id="prompt-mode", markup=False)
        yield self.system
        yield self.text

    def on_mount(self) -> None:
        self._show_mode()

    @property
    def has(self) -> frozenset[str]:
        """The things that it has beside its text, as Frame.box says it."""
        new = {"mode", "history"} if self.purpose is Purpose.NEW else set()
        return frozenset(new | ({"system"} if self.system.display else set()))

    def open(self, purpose: Purpose, given: Prompt | None = None, at: int | None = None, first: str = "text") -> None:
        """given: what stands in it; None for what was left of the last new prompt.
        at: the character where the caret stands, None for the end. first: the field it is in, 'text' or 'system'.
        """
        if self.purpose is Purpose.NEW and purpose is not Purpose.NEW:
            self._left = Prompt(self.text.text, self.system.text, self.chat, self.read)
        if purpose is not self.purpose or given:
            self._fill(given or self._left, at)
        self.purpose, self.display = purpose, True
        self._show_mode()
        (self.system if first == "system" and self.system.display else self.text).focus()

    def _fill(self, prompt: Prompt, at: int | None = None) -> None:
        self._age, self._draft = 0, ""
        self.text.text, self.system.text = prompt.prompt, prompt.system or ""
        self.chat, self.read = prompt.chat, prompt.read
        before = prompt.prompt[:at].split("\n")
        self.text.move_cursor((len(before) - 1, len(before[-1])))

    def typed(self) -> Prompt | None:
        """The prompt in the box. None where nothing is typed, and a chat has nothing to answer."""
        if not self.text.text.strip() and self.chat and self.purpose is not Purpose.EDIT:
            return None
        system = self.system.text.strip() or None if self.chat else None
        return Prompt(self.text.text, system, self.chat, self.read)

    def sent(self) -> None:
        """Empty the box: what was typed in it was taken."""
        if self.purpose in (Purpose.NEW, Purpose.PROMPT) and (prompt := self.typed()):
            self.history.add(prompt)
        if self.purpose is Purpose.NEW:
            self.text.text, self._age, self._draft = "", 0, ""

    def newline(self) -> None:
        field = self.system if self.system.has_focus else self.text
        field.insert("\n")

    def next_mode(self, has_template: bool) -> None:
        """From chat to raw completion, to a text that is read, and back. Not for what belongs to a run, which has a
        mode."""
        if self.purpose is Purpose.NEW:
            modes = [(True, False)] * has_template + [(False, False), (False, True)]
            self.chat, self.read = modes[(modes.index((self.chat, self.read)) + 1) % len(modes)]
            self._show_mode()

    def switch_field(self) -> None:
        """Between the prompt and, where there is a chat template to hold it, the system prompt."""
        (self.system if self.system.display and not self.system.has_focus else self.text).focus()

    def may_recall(self, by: int) -> bool:
        """Up and down walk through the history only from the first and the last line of a new prompt."""
        if not self.text.has_focus or self.purpose is not Purpose.NEW:
            return False
        row = self.text.cursor_location[0]
        return row == (0 if by > 0 else self.text.document.line_count - 1)

    def recall(self, by: int) -> None:
        age = self._age + by
        if not 0 <= age <= len(self.history.prompts):
            return
        if not self._age:
            self._draft = self.text.text
        self._age = age
        if age:
            then = self.history.prompts[-age]
            self.text.text, self.chat, self.read = then.prompt, then.chat, then.read
            self.system.text = then.system or ""
        else:
            self.text.text = self._draft
        self.text.move_cursor(self.text.document.end)
        self._show_mode()

    def _show_mode(self) -> None:
        self.system.display = self.chat and self.purpose is not Purpose.EDIT
        if not self.system.display and self.system.has_focus:
            self.text.focus()
        title = self.purpose.value
        if self.purpose is not Purpose.EDIT:
            mode = "chat template: system prompt above, yours below" if self.chat else "raw completion, no template"
            mode = "a text to be read: every token is scored, nothing is written" if self.read else mode
            title += f" · {mode}"
        self.query_one("#prompt-mode", Static).update(title)
