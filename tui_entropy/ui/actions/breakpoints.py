"""The actions on the pages of breakpoints and watches: lists that a person adds to and takes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace as changed

from tui_entropy.records.commands import SetBreakpoints, SetWatches
from tui_entropy.records.settings import Breakpoint, Watch
from tui_entropy.ui.dialogs.ask_line import unescape
from tui_entropy.ui.drawing.glyphs import visible_bytes
from tui_entropy.ui.protocol.actions import EngineActions
from tui_entropy.ui.protocol.remark import Remark


class ListActions(EngineActions):
    """The engine is told of the whole list at every change, and what it says is what is shown."""

    @property
    def _stops(self) -> bool:
        """Whether the list is of breakpoints, not of watches."""
        return self.app.page is not None and self.app.page.called == "breakpoints"

    @property
    def listed(self) -> Sequence[Breakpoint | Watch]:
        """The rows of the page that is open, without the one that adds."""
        return self.app.frame.log.breakpoints if self._stops else self.app.frame.log.run.watches

    def action_add_row(self) -> None:
        self.app.show(row=len(self.listed))
        self.action_edit_row()

    def action_edit_row(self) -> None:
        """The chosen row anew; on the last one, another."""
        rows, at = self.listed, self.app.frame.row
        now = rows[at] if at < len(rows) else None
        if self._stops:
            self.app.ask(
                "stop before a token when", self._put(at, breakpoint_of(now, rows)), text_of(now), self._condition
            )
        else:
            self.app.ask("watch the text", self._put(at, unescape), text_of(now), self._watchable)

    def _put(self, at: int, make_row: Callable[[str], Any]) -> Callable[[str], None]:
        """Takes an answer as the row at that place."""

        def take(answer: str) -> None:
            rows = self.wanted_rows
            self._set([*rows[:at], make_row(answer), *rows[at + 1 :]])

        return take

    @property
    def wanted_rows(self) -> list[Any]:
        """As they are told to the engine: breakpoints, or texts."""
        return [row.text if isinstance(row, Watch) else row for row in self.listed]

    def _set(self, rows: list[Any]) -> None:
        self.app.tell(SetBreakpoints(tuple(rows)) if self._stops else SetWatches(tuple(dict.fromkeys(rows))))

    def action_delete_row(self) -> None:
        rows, at = self.wanted_rows, self.app.frame.row
        if at < len(rows):
            self._set(rows[:at] + rows[at + 1 :])

    def action_switch_row(self) -> None:
        rows, at = self.wanted_rows, self.app.frame.row
        if at < len(rows):
            self._set([*rows[:at], changed(rows[at], enabled=not rows[at].enabled, note=""), *rows[at + 1 :]])

    def _condition(self, typed: str) -> Remark:
        from tui_entropy.breakpoints.condition import ConditionError
        from tui_entropy.breakpoints.parser import parse

        try:
            canonical = parse(typed, self.app.frame.log.card).canonical()
        except ConditionError as mistake:
            return Remark(str(mistake), mistake.at)
        return Remark("" if canonical == typed else f"means {canonical}")

    def _watchable(self, typed: str) -> Remark:
        if not typed:
            return Remark("type the text, with the space in front that most words have; \\n is a newline", 0)
        return Remark(f"follows {visible_bytes(unescape(typed).encode(), self.app.frame.paint.ascii)}")


def text_of(row: Breakpoint | Watch | None) -> str:
    """As it would be typed."""
    if isinstance(row, Watch):
        return row.text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return row.expression if row else ""


def breakpoint_of(now: Breakpoint | Watch | None, rows: Sequence[Breakpoint | Watch]) -> Callable[[str], Breakpoint]:
    """Makes one of an expression: that of the row anew, else one with a number that is free."""
    if isinstance(now, Breakpoint):
        return lambda typed: changed(now, expression=typed, hits=0, note="", enabled=True)
    free = max((row.id for row in rows if isinstance(row, Breakpoint)), default=0) + 1
    return lambda typed: Breakpoint(free, typed)
