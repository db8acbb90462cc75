"""TerminalSized: what keeps a screen as large as the terminal is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events

if TYPE_CHECKING:
    from textual.screen import Screen

    Base = Screen[None]
else:
    Base = object


class TerminalSized(Base):
    """A screen that takes no other size than the terminal has.

    Textual tells a screen of the size that it was laid out in, behind what is still to come. Where a terminal changes
    twice at once, two sizes would take turns for ever, each laid out and painted: 160x50, told behind 160x51, is laid
    out again and told once more. One that is past is passed over.
    """

    async def _on_resize(self, event: events.Resize) -> None:
        if event.size != self.app.size:
            event.prevent_default()
            event.stop()
