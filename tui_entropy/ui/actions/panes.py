"""Panes: which are seen, how large, and what lies over them."""

from __future__ import annotations

from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import Host

PANES = ("-show-heads", "-show-attention")
ZOOMABLE = ("stream", "twin", "chart", "candidates", "heads", "attention")


class PaneActions(Actions[Host]):
    """The actions on the panes of the usual screen: which there are, and where."""

    def action_page(self, pages: int) -> None:
        self.app.base.query_one(TokenStream).page(pages)

    def action_pane(self, name: str) -> None:
        """To a pane, on small screens in place of others; the same key again leads back."""
        app = self.app
        app.close_page()
        focused = app.base.focused
        back = focused is not None and focused.id == name
        app.base.remove_class(*PANES)
        if not back:
            app.base.add_class(f"-show-{name}")
        app.call_after_refresh(app.focus_on, "stream" if back else name)

    def action_zoom(self) -> None:
        app = self.app
        app.close_page()
        if app.base.has_class("-zoom"):
            self._unzoom()
            return
        focused = app.base.focused
        name = focused.id if focused is not None and focused.id in ZOOMABLE else "stream"
        pane = app.base.query_one(f"#{name}")
        for shown in pane.ancestors_with_self:
            if shown.id == "body":
                break
            shown.add_class("-zoomed")
        app.base.add_class("-zoom")

    def _unzoom(self) -> None:
        self.app.base.remove_class("-zoom")
        self.app.base.query(".-zoomed").remove_class("-zoomed")

    def action_escape(self) -> None:
        self._unzoom()
        self.app.base.remove_class(*PANES)
        self.app.focus_on("stream")

    def action_help(self) -> None:
        from tui_entropy.ui.dialogs.help import HelpScreen

        self.app.push_screen(HelpScreen(self.app.frame))

    def action_redraw(self) -> None:
        self.app.forget_terminal()
        self.app.refresh(layout=True)

    def action_help_quit(self) -> None:
        """ctrl-C."""
        self.app.say("q or ctrl+q quits")
