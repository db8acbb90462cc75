"""What a person asks of the app by clicking and scrolling in its views."""

from __future__ import annotations

from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.views.view import View


class ViewRequests(Host):
    """The part of the app that hears the messages of its views. The app has the rest of what is named here."""

    def on_view_cursor_asked(self, message: View.CursorAsked) -> None:
        self.go_to(message.index)

    def on_token_stream_scrolled(self, message: TokenStream.Scrolled) -> None:
        """Of two lanes side by side the other one follows."""
        for stream in self.base.query(TokenStream):
            if stream is not message.stream:
                stream.begin_with(message.step)

    def on_view_head_asked(self, message: View.HeadAsked) -> None:
        self.show(layer=message.layer, head=message.head)

    def on_view_knob_asked(self, message: View.KnobAsked) -> None:
        self.focus_on("knobs")
        self.show(knob=message.name, typed="")

    def on_view_token_asked(self, message: View.TokenAsked) -> None:
        """A second click on the same one takes it."""
        if message.token == self.frame.token:
            self.call_later(self.perform, "take")
        else:
            self.action_select(message.token - self.frame.token)

    def on_view_row_asked(self, message: View.RowAsked) -> None:
        self.show(row=message.row)

    def on_view_vector_asked(self, message: View.VectorAsked) -> None:
        self.action_vector(message.index + 1)
