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
    """A screen that is not told by itself of a size that the terminal no longer has.

    Textual tells a screen of the size that it was laid out in, behind what is still to come. Where a terminal changes
    twice at once, two sizes would take turns for ever, each laid out and painted: 160x50, told behind 160x51, is laid
    out again and told once more. Its own word of one that is past is passed over.
    """

    async def _on_resize(self, event: events.Resize) -> None:
        if event._sender is self and event.size != self.app.size:
            event.prevent_default()
            event.stop()
