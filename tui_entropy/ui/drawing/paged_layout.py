"""A long text in pages, each laid out when it is first looked at: a screen costs the same in any text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tui_entropy.ui.drawing.wrap import Flow

PAGE_STEPS = 512
"""Steps from where one page may begin to where the next may."""
MAX_STEPS_TO_LINE, MAX_STEPS_TO_WORD = 128, 256
"""How many steps to wait for one that begins a line, and then for one that begins a word."""
MAX_LAID_OUT_PAGES = 16
"""Pages that stay laid out."""

Position = tuple[int, int]
"""A page, and a line of it."""


class PagedLayout:
    """A text in pages, each laid out when it is looked at. (These are no pages of the screen.)

    Where a page begins depends on nothing but the text around it, so that it is the same whether the text came token
    by token or all at once. It begins with a line of its own: after a newline wherever there is one.

    Page n begins at the first step from n * PAGE_STEPS on that follows a newline. In prose without newlines that is
    the first word after MAX_STEPS_TO_LINE steps of waiting, and in text without either the step n * PAGE_STEPS +
    MAX_STEPS_TO_WORD - 1. So page 1 begins somewhere from step 512 to 767, and to know which no step outside of that
    range is looked at.

    new_page: makes the layout of a page before any step; the first one's holds the prompt.
    add: lays out the text of one step.
    """

    def __init__(self, new_page: Callable[[int], Flow], add: Callable[[Flow, int, str], None]) -> None:
        self._new_page, self._add = new_page, add
        self._texts: Sequence[str] = ()
        self._begins: dict[int, int] = {0: 0}
        self._flows: dict[int, Flow] = {}
        self._laid: dict[int, int] = {}
        """Page -> the first step that is not laid out in it yet."""

    def update(self, texts: Sequence[str]) -> None:
        """The text as it is now; it has only grown."""
        self._texts = texts

    def flow(self, n: int) -> Flow:
        """Page n as far as it goes."""
        flow = self._flows.pop(n, None)
        if flow is None:
            flow, self._laid[n] = self._new_page(n), self._begin(n) or 0
        self._flows[n] = flow  # the one looked at last comes last
        if len(self._flows) > MAX_LAID_OUT_PAGES:
            del self._flows[next(iter(self._flows))]
        after = self._begin(n + 1)
        end = len(self._texts) if after is None else after
        for index, text in enumerate(self._texts[self._laid[n] : end], self._laid[n]):
            self._add(flow, index, text)
        self._laid[n] = end
        return flow

    def lines(self, n: int) -> int:
        """The number of lines of page n; the empty one after its last newline belongs to the next page."""
        flow = self.flow(n)
        return len(flow.lines) - (n < self.last and not flow.lines[-1])

    @property
    def last(self) -> int:
        return self._of(len(self._texts) - 1) if self._texts else 0

    @property
    def end(self) -> Position:
        """The last line."""
        return self.last, self.lines(self.last) - 1

    def line_of(self, index: int) -> Position:
        """The line on which a step ends; the last one for a step that is not there yet."""
        if not 0 <= index < len(self._texts):
            return self.end
        n = self._of(index)
        return n, self.flow(n).line_of[index]

    def moved(self, position: Position, by: int) -> Position:
        """The position that many lines further down, but not beyond either end."""
        n, y = position[0], position[1] + by
        while y < 0 and n > 0:
            n -= 1
            y += self.lines(n)
        while y >= self.lines(n) and n < self.last:
            y -= self.lines(n)
            n += 1
        return n, min(max(y, 0), self.lines(n) - 1)

    def positions(self, top: Position, height: int) -> list[Position]:
        """So many lines from there on, or as many as there are."""
        n, y = top
        positions: list[Position] = []
        while len(positions) < height and n <= self.last:
            positions += [(n, line) for line in range(y, min(self.lines(n), y + height - len(positions)))]
            n, y = n + 1, 0
        return positions

    def _of(self, index: int) -> int:
        """The page of a step."""
        n = index // PAGE_STEPS
        begin = self._begin(n)
        return n if begin is not None and begin <= index else n - 1

    def _begin(self, n: int) -> int | None:
        """The first step of page n, None while the text has not come to it."""
        if n not in self._begins:
            first = n * PAGE_STEPS
            around = self._texts[first - 1 : first + MAX_STEPS_TO_WORD]
            for at in range(1, len(around)):
                word = at > MAX_STEPS_TO_LINE and around[at].startswith(" ")
                if word or around[at - 1].endswith("\n") or at == MAX_STEPS_TO_WORD:
                    self._begins[n] = first - 1 + at
                    break
        return self._begins.get(n)
