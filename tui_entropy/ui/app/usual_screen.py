"""The screen under whatever is open over it."""

from __future__ import annotations

from collections.abc import Callable

from textual.screen import Screen

from tui_entropy.ui.views.terminal_sized import TerminalSized


class UsualScreen(TerminalSized, Screen[None]):
    """The screen of the panes; it tells when it is laid out for another size."""

    def __init__(self, on_styled: Callable[[], None]) -> None:
        """on_styled: called when the stylesheet has done its part for another size."""
        super().__init__(id="_default")
        self._on_styled = on_styled

    def on_resize(self) -> None:
        self.call_after_refresh(self.app.call_after_refresh, self._on_styled)
