"""Text that grows at its end, broken into lines by cells."""

from __future__ import annotations

import re

from tui_entropy.ui.drawing.glyphs import cells


class Flow:
    """Lines of at most `width` cells, broken at spaces where they can be, beside wide letters, and anywhere else
    where one word fills a line.

    Adding touches the last line only, so a long text costs no more than a short one. Room is kept at the end of a
    line for the space or the newline glyph that ends it.
    """

    def __init__(self, width: int, newline: str) -> None:
        self.newline = newline
        self.width = max(width, 4)
        self.lines: list[list[tuple[str, int]]] = [[]]
        """Per line (text, owner)."""
        self.line_of: dict[int, int] = {}
        """Owner -> the line that it ends on."""
        self._limit = self.width - cells(newline)
        self._used = 0
        self._word = 0
        """Where in the last line the word begins that must not be torn."""

    def turn(self) -> None:
        """Begin on a line of its own, after an empty one."""
        if self.lines != [[]]:
            self._break()
            self._break()

    def reach(self, n: int) -> None:
        """End lines until there are n."""
        while len(self.lines) < n:
            self._break()

    def add(self, text: str, owner: int) -> None:
        self.line_of.setdefault(owner, len(self.lines) - 1)
        for chunk in re.findall(r"\n| |[^\n ]+", text):
            if chunk == "\n":
                self._fit(self.newline, owner, self.width)
                self._break()
            elif chunk == " ":
                self._fit(chunk, owner, self.width)
                self._word = len(self.lines[-1])
            else:
                self._add_word(chunk, owner)

    def _add_word(self, word: str, owner: int) -> None:
        if len(word) == cells(word) <= self._limit:
            self._fit(word, owner, self._limit)
            return
        for char in word:
            wide = cells(char) > 1
            if wide:
                self._word = len(self.lines[-1])
            self._fit(char, owner, self._limit)
            if wide:
                self._word = len(self.lines[-1])

    def _fit(self, text: str, owner: int, limit: int) -> None:
        size = cells(text)
        if self._used + size > limit:
            begun = self.lines[-1][self._word :]
            if self._word and sum(cells(part) for part, _ in begun) + size <= limit and limit == self._limit:
                del self.lines[-1][self._word :]
            else:
                begun = []
            self._break()
            for part, whose in begun:
                self._put(part, cells(part), whose)
        self._put(text, size, owner)

    def _break(self) -> None:
        self.lines.append([])
        self._used = self._word = 0

    def _put(self, text: str, size: int, owner: int) -> None:
        self.lines[-1].append((text, owner))
        self.line_of[owner] = len(self.lines) - 1
        self._used += size
